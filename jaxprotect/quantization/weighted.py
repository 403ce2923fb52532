"""Ranges of the least squared error when some weights' errors count more than others'."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.blocks import scale_blocks
from jaxprotect.quantization.grid import (
    Bits,
    Grids,
    block_bits,
    check_bits,
    counted_weights,
)
from jaxprotect.quantization.levels import Grid
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.ranges import mse_grid
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths

Importance = Mapping[str, Float[Array | np.ndarray, "..."]]
"""Leaf path -> how much the squared error of each weight counts, at least 0; broadcastable to the
leaf, so that one number per input is enough."""


def weighted_mse_grids(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    importance: Importance,
    bits: Bits | None = None,
) -> Grids:
    """Grids that minimise sum_i importance_i (Q(w_i) - w_i)^2 in each block.

    With E[x_j^2] of the inputs, that is the expected squared error of each output if inputs are
    uncorrelated; with summed squared gradients, twice the second-order damage that `gains`
    predicts. Leaves that are not named, and blocks whose importance is 0 throughout, minimise the
    plain squared error.

    Args:
        params: parameter tree.
        mask: what is protected; left out of range and error as `spec.scale_from` says.
        spec: the quantizer (its `ranges` are not used).
        importance: how much errors count, in any unit.
        bits: see `grid.Bits`.

    Returns:
        A grid for every eligible leaf.

    Raises:
        InputError: `importance` of a leaf that is not eligible, that does not broadcast to it, or
            that is negative or not finite; `bits` that do not fit.
    """
    leaves, flags = leaf_paths(params), leaf_paths(mask)
    eligible = {path: w for path, w in leaves.items() if is_eligible(path, spec.eligible)}
    check_bits(bits or {}, {path: w.shape for path, w in eligible.items()}, spec)
    for path, values in importance.items():
        _check(path, values, eligible)
    grids = {}
    for path, weights in eligible.items():
        of_leaf = importance.get(path)
        grids[path] = _leaf_grid(
            weights,
            jnp.asarray(flags[path]),
            None if of_leaf is None else jnp.asarray(of_leaf),
            None if bits is None or path not in bits else jnp.asarray(bits[path]),
            path,
            spec,
        )
    return grids


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _leaf_grid(
    weights: Float[Array, "..."],
    protected: Bool[Array, "..."],
    importance: Float[Array, "..."] | None,
    bits: Array | None,
    path: str,
    spec: QuantSpec,
) -> Grid:
    view, _ = scale_blocks(weights.astype(jnp.float32), path, spec)
    counted, axes = counted_weights(protected, weights.shape, path, spec)
    of_blocks = None
    if importance is not None:
        whole = jnp.broadcast_to(importance, weights.shape)
        of_blocks = scale_blocks(whole.astype(jnp.float32), path, spec)[0]
    width = block_bits(None if bits is None else {path: bits}, path, spec)
    return mse_grid(view, counted, axes, spec, width, importance=of_blocks)


def _check(path: str, values: Array | np.ndarray, eligible: Mapping[str, Array]) -> None:
    if path not in eligible:
        raise InputError(f"`importance` has {path!r}; the eligible leaves are {sorted(eligible)}")
    shape, arrived = eligible[path].shape, jnp.shape(values)
    try:
        fits = jnp.broadcast_shapes(arrived, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"`importance` at {path} has shape {arrived}; the model has {shape}")
    if not bool(jnp.isfinite(values).all()) or not bool((jnp.asarray(values) >= 0).all()):
        raise InputError(f"`importance` at {path} is not all finite and at least 0")
