"""The grid that a block of weights is rounded to: scale, zero point, integer limits."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.quantization.blocks import scale_blocks
from jaxprotect.quantization.spec import DATA_FREE_RANGES, QuantSpec

KEPT = 16
"""Bits of an output channel that is stored as it is, in `spec.other_dtype`, instead of codes."""

Bits = dict[str, Any]
"""Leaf path -> bits of each output channel, 2 to 8 or `KEPT`: integers of the leaf's rank, of size
1 along its inputs; leaves that are not named have `spec.bits`."""


@struct.dataclass
class Grid:
    """Where the levels of a leaf's blocks lie: level of code c = (c - zero) * scale.

    Args:
        scale: one for each block, of the block view's rank, block axes of size 1.
        zero: the code of level 0; 0 when symmetric.
    """

    scale: Float[Array, "..."]
    zero: Float[Array, "..."]


Grids = dict[str, Grid]
"""Leaf path -> the grid of its blocks, instead of the one that `spec.ranges` gives."""


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
        half = jnp.exp2(bits.astype(jnp.float32) - 1)
        return (-half, half - 1) if spec.symmetric else (jnp.zeros_like(half), 2 * half - 1)
    count = spec.bits if bits is None else bits
    if spec.symmetric:
        return -(2 ** (count - 1)), 2 ** (count - 1) - 1
    return 0, 2**count - 1


def exact_divide(a: Float[Array, "..."], b: Float[Array, "..."] | int) -> Float[Array, "..."]:
    """a / b, correctly rounded, for any b that broadcasts.

    XLA turns division by a constant or a broadcast value into multiplication by its reciprocal,
    which is often off by one unit in the last place: enough to move a weight to another level.
    min(|a|, 0) is 0, but XLA does not know that, and so divides.
    """
    return a / (b + jnp.minimum(jnp.abs(a), 0.0))


def absmax_grid(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
) -> Grid:
    """The grid that reaches from the smallest to the largest counted weight of each block.

    Symmetric: scale = max|w| / qmax, zero = 0. Asymmetric: scale = (max - min) / (2^b - 1) over
    the range widened to include 0, zero = round(-min / scale). A block without counted weights,
    or of zeros only, has scale 1.

    Args:
        view: blocked weights.
        counted: True where a weight takes part in the range.
        axes: axes of a block.
        spec: the quantizer.
        bits: of each block, if not `spec.bits`.

    Returns:
        The grid, with the block axes kept at size 1.
    """
    counted_view = jnp.where(counted, view, 0.0)
    if spec.symmetric:
        reach = jnp.max(jnp.abs(counted_view), axis=axes, keepdims=True)
        return grid_of_range(-reach, reach, spec, bits)
    # Widened to 0, so that the zero point is a code even where all weights have one sign.
    low = jnp.min(counted_view, axis=axes, keepdims=True, initial=0.0)
    high = jnp.max(counted_view, axis=axes, keepdims=True, initial=0.0)
    return grid_of_range(low, high, spec, bits)


def grid_of_range(
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
) -> Grid:
    """The grid that reaches from `low` to `high`, see `absmax_grid`.

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


def block_bits(bits: Bits | None, path: str, spec: QuantSpec) -> Int[Array, "..."] | None:
    """Bits of a leaf's blocks as they broadcast to its block view; None where it has `spec.bits`.

    A kept channel counts as one of 8 bits: it has codes until they are thrown away.

    Args:
        bits: see `Bits`.
        path: leaf path.
        spec: the quantizer.
    """
    if bits is None or path not in bits:
        return None
    return jnp.minimum(scale_blocks_of_channels(jnp.asarray(bits[path]), path, spec), 8)


def scale_blocks_of_channels(values: Array, path: str, spec: QuantSpec) -> Array:
    """Values of output channels (size 1 along inputs) as they broadcast to the block view."""
    contracted = contracted_axes(path)
    if spec.granularity != "group" or not contracted:
        return values
    first, count = contracted[0], len(contracted)
    return values.reshape(*values.shape[:first], 1, 1, *values.shape[first + count :])


def leaf_grid(
    weights: Float[Array, "..."],
    protected: Bool[Array, "..."],
    path: str,
    spec: QuantSpec,
    bits: Bits | None = None,
) -> Grid:
    """The grid of a leaf by `spec.ranges`, from the weights that `spec.scale_from` counts.

    Args:
        weights: the leaf.
        protected: True = protected; broadcastable to `weights`.
        path: its path.
        spec: the quantizer.
        bits: see `Bits`.

    Returns:
        The grid.

    Raises:
        InputError: ranges that need data, which come as `grids`.
    """
    if spec.ranges not in DATA_FREE_RANGES:
        raise InputError(
            f"`spec.ranges` is {spec.ranges!r}, which needs data: give `grids`; without them "
            f"allowed are {', '.join(DATA_FREE_RANGES)}"
        )
    view, axes = scale_blocks(weights.astype(jnp.float32), path, spec)
    counted = jnp.ones((), bool)
    if spec.scale_from == "unprotected":
        mask = jnp.broadcast_to(protected, weights.shape)
        counted = ~scale_blocks(mask, path, spec)[0]
    return absmax_grid(view, counted, axes, spec, block_bits(bits, path, spec))


def check_bits(bits: Bits, shapes: dict[str, tuple[int, ...]], spec: QuantSpec) -> None:
    """Refuse bits that no quantizer has, or that differ inside a block.

    Args:
        bits: see `Bits`.
        shapes: leaf path -> shape, of all leaves of the model.
        spec: the quantizer.

    Raises:
        InputError: an unknown or ineligible leaf, a shape that is not one number per output
            channel (per tensor, if scales are), or bits other than 2 to 8 and 16.
    """
    for path, of_leaf in bits.items():
        if path not in shapes:
            raise InputError(f"`bits` has {path!r}, a leaf that the model does not have")
        shape, arrived = shapes[path], jnp.shape(of_leaf)
        inner = contracted_axes(path)
        if spec.granularity == "tensor" or not inner:
            inner = tuple(a for a in range(len(shape)) if a != layer_axis(path))
        fits = len(arrived) == len(shape) and all(
            have == 1 or (have == full and axis not in inner)
            for axis, (have, full) in enumerate(zip(arrived, shape, strict=True))
        )
        if not fits:
            raise InputError(
                f"`bits` at {path} has shape {arrived}; allowed is {len(shape)} axes, each 1 or "
                f"that of {shape}, and 1 on the axes {inner} of a block"
            )
        if not isinstance(of_leaf, Tracer):
            if not jnp.issubdtype(jnp.asarray(of_leaf).dtype, jnp.integer):
                raise InputError(f"`bits` at {path} has other numbers; allowed are integers")
            odd = set(map(int, jnp.unique(jnp.asarray(of_leaf)))) - {*range(2, 9), KEPT}
            if odd:
                raise InputError(f"`bits` at {path} has {sorted(odd)}; allowed are 2 to 8 and 16")
