"""A protected model as an ordinary Hugging Face folder, which any tool of the ecosystem reads."""

from pathlib import Path

from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import WeightDtype, save_model_folder
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits, Grids
from jaxprotect.quantization.packed_params import is_packed, unpack_params
from jaxprotect.quantization.quantize import Mask, quantize
from jaxprotect.quantization.spec import QuantSpec


def export_hf(
    folder: Path | str,
    model: Model,
    *,
    mask: Mask | None = None,
    spec: QuantSpec | None = None,
    bits: Bits | None = None,
    grids: Grids | None = None,
    params: Params | None = None,
    dtype: WeightDtype = "float32",
) -> None:
    """Write a model's dequantized weights under the names that `transformers` expects.

    `AutoModelForCausalLM.from_pretrained(folder)`, of a masked model `AutoModelForMaskedLM`,
    computes what the protected model computes. The folder is as large as the original: it is for
    evaluation, `pack` is for size.

    A dequantized weight is code * scale, a float32 number that float16 rounds to 11 bits and
    bfloat16 to 8: an error of up to 2^-12 or 2^-9 of the weight, which the packed model does not
    have. In float16, a scale below 6e-8 is even lost. So float32 is the default.

    Args:
        folder: a new or empty folder.
        model: a packed model, or with `mask` and `spec` one to quantize; without them its weights
            are written as they are.
        mask: what to protect; True = protect.
        spec: the quantizer.
        bits: mixed precision, as for `quantize`.
        grids: grids, as for `quantize`.
        params: weights instead of the model's, such as compensated ones.
        dtype: type of the stored weights; only float32 is exact.

    Raises:
        InputError: one of `mask` and `spec` without the other, a packed model with them, or what
            `quantize` and `save_model_folder` refuse.
    """
    weights = model.params if params is None else params
    if (mask is None) != (spec is None):
        given = "`mask` without `spec`" if spec is None else "`spec` without `mask`"
        raise InputError(f"{given}; allowed: both, or none")
    if spec is None and (bits or grids):
        raise InputError("`bits` or `grids` without `spec`; allowed: with `mask` and `spec`")
    if mask is not None and spec is not None:
        if is_packed(weights):
            raise InputError(f"`model` {model.name} is packed already; give no `mask` and `spec`")
        weights = quantize(weights, mask, spec, model.config, bits=bits, grids=grids)
    dense = unpack_params(weights, model.config) if is_packed(weights) else weights
    save_model_folder(folder, dense, model.config, tokenizer=model.tokenizer, dtype=dtype)
