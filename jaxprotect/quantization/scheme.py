"""Everything that says how a model is stored, as one value: what is sized, measured and packed."""

from flax import struct

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.prefix import Prefix
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits, Grids
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.spec import QuantSpec


@struct.dataclass
class Scheme:
    """How every weight of a model is stored.

    Fields that are None are not used. They are not type-checked: JAX fills pytrees with
    placeholders.

    Args:
        spec: the quantizer.
        mask: True = protected.
        bits: mixed precision, see `Bits`.
        grids: calibrated grids, see `Grids`.
        weights: compensated weights in the place of the model's own.
        prefix: cached tokens in the place of the start token.
    """

    spec: QuantSpec = struct.field(pytree_node=False)
    mask: Mask
    bits: Bits | None = None
    grids: Grids | None = None
    weights: Params | None = None
    prefix: Prefix | None = None


def apply_scheme(params: Params, scheme: Scheme, config: ModelConfig) -> Params:
    """The weights that the stored model computes with: `quantize` by a scheme.

    Args:
        params: the unquantized parameter tree.
        scheme: how it is stored.
        config: the architecture.

    Returns:
        A tree like `params`.

    Raises:
        InputError: as `quantize`.
    """
    weights = params if scheme.weights is None else scheme.weights
    return quantize_tree(
        weights, scheme.mask, scheme.spec, config, bits=scheme.bits, grids=scheme.grids
    )
