"""The levels that a block of weights is rounded to: scale, zero point, integer limits."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.spec import QuantSpec


@struct.dataclass
class Grid:
    """Where the levels of a leaf's blocks lie: level of code c = (c - zero) * scale.

    Args:
        scale: one for each block, of the block view's rank, block axes of size 1.
        zero: the code of level 0; 0 when symmetric.
    """

    scale: Float[Array, "..."]
    zero: Float[Array, "..."]


def code_limits(
    spec: QuantSpec, bits: Int[Array, "..."] | int | None = None
) -> tuple[Float[Array, "..."] | int, Float[Array, "..."] | int]:
    """Smallest and largest integer code: [-2^(b-1), 2^(b-1) - 1], or [0, 2^b - 1] asymmetric.

    Args:
        spec: the quantizer.
        bits: b, if not `spec.bits`: one number, or an array that broadcasts to a block view.

    Returns:
        Python ints, or float arrays like `bits`.
    """
    if isinstance(bits, jax.Array):
        half = jnp.left_shift(1, bits - 1).astype(jnp.float32)  # exp2 is not exact on every device
        return (-half, half - 1) if spec.symmetric else (jnp.zeros_like(half), 2 * half - 1)
    count = spec.bits if bits is None else bits
    if spec.symmetric:
        return -(2 ** (count - 1)), 2 ** (count - 1) - 1
    return 0, 2**count - 1


def counted_range(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The smallest and the largest counted weight of each block, widened to include 0.

    Symmetric: minus and plus the largest |w|.

    Args:
        view: blocked weights.
        counted: True where a weight takes part.
        axes: axes of a block.
        spec: the quantizer.

    Returns:
        Both ends, with the block axes kept at size 1; 0 where nothing is counted.
    """
    inside = jnp.where(counted, view, 0.0)
    low = jnp.min(inside, axis=axes, keepdims=True, initial=0.0)
    high = jnp.max(inside, axis=axes, keepdims=True, initial=0.0)
    if spec.symmetric:
        high = jnp.maximum(-low, high)
        low = -high
    return low, high


def grid_of_range(
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
) -> Grid:
    """The grid that reaches from `low` to `high`, see `ranges.absmax_grid`.

    Args:
        low: lower end of each block's range, at most 0.
        high: upper end, at least 0; all that counts when symmetric.
        spec: the quantizer.
        bits: of each block, if not `spec.bits`.

    Returns:
        The grid; scale 1 where the range is empty.
    """
    low_code, high_code = code_limits(spec, bits)
    if spec.symmetric:
        scale = jnp.where(high > 0, exact_divide(high, high_code), 1.0)
        return Grid(scale=scale, zero=jnp.zeros_like(scale))
    levels = high_code - low_code
    scale = jnp.where(high > low, exact_divide(high - low, levels), 1.0)
    return Grid(scale=scale, zero=jnp.round(exact_divide(-low, scale)))
