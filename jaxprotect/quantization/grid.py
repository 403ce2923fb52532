"""The grid of a leaf by its quantizer: what range its blocks reach over, and with how many bits."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.quantization.aciq import aciq_grid
from jaxprotect.quantization.blocks import scale_blocks
from jaxprotect.quantization.levels import Grid
from jaxprotect.quantization.ranges import absmax_grid, mse_grid, percentile_grid
from jaxprotect.quantization.spec import DATA_FREE_RANGES, QuantSpec

KEPT = 16
"""Bits of an output channel that is stored as it is, in `spec.other_dtype`, instead of codes."""

Bits = dict[str, Any]
"""Leaf path -> bits of each output channel, 2 to 8 or `KEPT`: integers of the leaf's rank, of size
1 along its inputs; leaves that are not named have `spec.bits`."""


Grids = dict[str, Grid]
"""Leaf path -> the grid of its blocks, instead of the one that `spec.ranges` gives."""

FINDERS = {
    "absmax": absmax_grid,
    "percentile": percentile_grid,
    "mse": mse_grid,
    "aciq": aciq_grid,
}
"""`QuantSpec.ranges` -> what finds the grid of blocked weights from the weights alone."""


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


def counted_weights(
    protected: Bool[Array, "..."], shape: tuple[int, ...], path: str, spec: QuantSpec
) -> tuple[Bool[Array, "..."], tuple[int, ...]]:
    """Which weights `spec.scale_from` lets take part in the range; padding of groups never does.

    Args:
        protected: True = protected; broadcastable to the leaf.
        shape: of the leaf.
        path: its path.
        spec: the quantizer.

    Returns:
        Flags in the block view, and the axes of a block.
    """
    counted = jnp.ones(shape, bool)
    if spec.scale_from == "unprotected":
        counted = ~jnp.broadcast_to(protected, shape)
    return scale_blocks(counted, path, spec)


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
    view, _ = scale_blocks(weights.astype(jnp.float32), path, spec)
    counted, axes = counted_weights(protected, weights.shape, path, spec)
    return FINDERS[spec.ranges](view, counted, axes, spec, block_bits(bits, path, spec))


compiled_leaf_grid = jax.jit(leaf_grid, static_argnums=(2, 3))
"""`leaf_grid`, compiled once per leaf and quantizer; a search for a range is slow without."""


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
