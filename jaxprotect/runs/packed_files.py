"""A protected model as a folder of the size it claims.

model.safetensors    packed codes, scales, protected values and indices, see `quantization.layout`
config.json          the architecture; marked, so that `transformers` refuses to load it as dense
manifest.json        format version, quantizer, source model, sha256 of every array, sizes,
                     versions, device with the precision of its products
tokenizer files
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import mark_packed, write_config
from jaxprotect.models.folders import refuse_used_folder, written_whole
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.models.weight_files import SINGLE
from jaxprotect.progress import progress
from jaxprotect.quantization.grid import Bits, Grids
from jaxprotect.quantization.layout import model_layout
from jaxprotect.quantization.packed_params import is_packed
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.quantize import Mask, check_tree
from jaxprotect.quantization.size import ModelSize, protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.results import device, to_json, versions
from jaxprotect.runs.safetensors_writer import file_size, write_safetensors

FORMAT = "jaxprotect packed model"
VERSION = 1
MANIFEST = "manifest.json"


def packed_file_size(
    params_or_shapes: Any,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    bits: Bits | None = None,
) -> int:
    """Bytes of the `model.safetensors` that `pack` writes, header included.

    total = 8 + header + `protected_size(...).total`. Only shapes and flags are read.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        mask: bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.
        config: the architecture.
        bits: mixed precision, as for `quantize`.

    Returns:
        The size, a Python int.

    Raises:
        InputError: arguments that do not fit the architecture or each other.
    """
    check_tree("params_or_shapes", params_or_shapes, config)
    return file_size(model_layout(params_or_shapes, mask, spec, bits))


def pack(
    folder: Path | str,
    model: Model,
    mask: Mask,
    spec: QuantSpec,
    *,
    bits: Bits | None = None,
    grids: Grids | None = None,
    params: Params | None = None,
) -> ModelSize:
    """Write a model, quantized where the mask does not protect it, as a folder of packed arrays.

    What `load_packed` computes with is `quantize(params, mask, spec, config, bits=, grids=)`.
    Tensors are packed and written one after the other, next to the folder, which is renamed at
    the end: it is whole or absent.

    Args:
        folder: a new or empty folder.
        model: the model; its architecture, tokenizer and name.
        mask: bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.
        bits: mixed precision, as for `quantize`.
        grids: grids, as for `quantize`.
        params: weights to pack instead of the model's, such as compensated ones.

    Returns:
        The bytes by part, as `protected_size` predicted them and as they were written.

    Raises:
        InputError: the folder has files, a packed model, arguments that do not fit, or values
            that `spec.protected_dtype` cannot hold, by tensor.
    """
    folder = Path(folder).absolute()
    refuse_used_folder("folder", folder)
    weights = model.params if params is None else params
    if is_packed(weights):
        raise InputError(f"`model` {model.name} is packed already; pack the model it came from")
    check_tree("params", weights, model.config)
    layout = model_layout(weights, mask, spec, bits)
    size = protected_size(weights, mask, spec, bits)
    config = mark_packed(write_config(model.config)) | {"torch_dtype": "float32"}
    if model.tokenizer is not None:
        tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
        config |= {token: getattr(model.tokenizer, token) for token in tokens}

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        tensors = pack_tensors(weights, mask, spec, model.config, bits=bits, grids=grids)
        for name, parts in progress(tensors, desc="pack", unit="tensor"):
            yield from ((f"{name}.{part}" if part else name, a) for part, a in parts.items())

    with written_whole(folder) as unfinished:
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(unfinished)
        (unfinished / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        checksums = write_safetensors(unfinished / SINGLE, layout, arrays())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "spec": asdict(spec),
            "model": {"name": model.name, "revision": model.revision, "sha256": model.sha256},
            "tokenizer": model.tokenizer is not None,
            "weights": size.weights,
            "protected": size.protected,
            "bytes": file_size(layout),
            "parts": size.rows(),
            "sha256": checksums,
            "versions": versions(),
            "device": device(),
        }
        (unfinished / MANIFEST).write_text(to_json(manifest, indent=1) + "\n", "utf-8")
    return size
