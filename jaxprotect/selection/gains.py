"""What protecting each weight takes off a language's damage, predicted.

To second order, at a minimum of its loss, language l loses 1/2 sum_i F_li e_i^2 to rounding errors
e, with F_l its summed squared gradients. Protecting weight i removes two things:

- its own error, 1/2 F_li e_i^2;
- where scales come from the unprotected weights only, a share of everybody's error: when the
  largest weights of a block leave, its scale s falls, and so does the mean squared error s^2 / 12
  of all that stay. The benefit of the m-th to leave needs those before it, so it is spread by the
  least concave majorant over m: then a top k by gain takes outliers in their order.

Criteria that know only the first part (Fisher x delta^2, TaCQ, |g delta|) give the largest weight
of a block nothing, since absmax rounding leaves it where it is.
"""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float
from scipy.optimize import isotonic_regression

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.blocks import from_scale_blocks, scale_blocks
from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.grid import KEPT, Bits, block_bits, leaf_grid
from jaxprotect.quantization.levels import code_limits
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths

OUTLIERS = 0.3
"""Largest share of a block that is considered for leaving it to lower its scale."""


@struct.dataclass
class Rounding:
    """A quantizer's errors, the part of a gain that no language enters.

    Args:
        error: leaf path -> squared error of each weight where it is not protected; eligible only.
        relief: leaf path -> how far the mean squared error of its block falls when this weight
            leaves it; 0 but for the largest, and everywhere if scales come from all weights.
    """

    error: dict[str, Float[Array | np.ndarray, "..."]]
    relief: dict[str, Float[Array | np.ndarray, "..."]]


def rounding(params: Params, mask: Mask, spec: QuantSpec, bits: Bits | None = None) -> Rounding:
    """Errors at the scales that a mask leaves, and the relief in scale that each weight can give.

    A protected weight's error is that of rounding it on the same grid without clipping: what its
    return would raise the scale by is its relief.

    Args:
        params: parameter tree.
        mask: what is protected now, such as `masks.none`; refreshed as the choice moves.
        spec: the quantizer.
        bits: mixed precision; rows of 16 bits have neither errors nor relief to give.

    Returns:
        Errors and reliefs of all eligible leaves.
    """
    flags = leaf_paths(mask)
    error, relief = {}, {}
    for path, weights in leaf_paths(params).items():
        if is_eligible(path, spec.eligible):
            of_leaf = None if bits is None or path not in bits else jnp.asarray(bits[path])
            error[path] = _squared_error(weights, jnp.asarray(flags[path]), path, spec, of_leaf)
            relief[path] = scale_relief(weights, path, spec)
            if of_leaf is not None:  # all scales of a row are to those of `spec.bits` as its steps
                steps, own = (_steps(spec, b) for b in (jnp.asarray(spec.bits), of_leaf))
                factor = jnp.where(of_leaf == KEPT, 0, jnp.square(steps / own))
                relief[path] = relief[path] * on_host(factor)
    return Rounding(error=error, relief=relief)


def _steps(spec: QuantSpec, bits: Array) -> Array:
    """Steps between 0 and the largest weight, or between the smallest and the largest."""
    low, high = code_limits(spec, jnp.minimum(bits, 8))
    return jnp.asarray(high if spec.symmetric else high - low)


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _squared_error(
    weights: Array, protected: Array, path: str, spec: QuantSpec, bits: Array | None = None
) -> Array:
    of_leaf = None if bits is None else {path: bits}
    view, _ = scale_blocks(weights.astype(jnp.float32), path, spec)
    grid = leaf_grid(weights, protected, path, spec, of_leaf)
    codes = jnp.round(exact_divide(view, grid.scale)) + grid.zero
    if spec.scale_from == "all" or spec.ranges != "absmax":
        codes = jnp.clip(codes, *code_limits(spec, block_bits(of_leaf, path, spec)))
    error = (codes - grid.zero) * grid.scale - view
    squared = from_scale_blocks(jnp.square(error), weights.shape, path, spec)
    return squared if bits is None else jnp.where(bits == KEPT, 0.0, squared)


def scale_relief(
    weights: Float[Array, "..."], path: str, spec: QuantSpec
) -> Float[np.ndarray, "..."]:
    """How far the mean squared error of a weight's block falls when the weight leaves it.

    With s_m the scale after the m largest have left, the falls (s_{m-1}^2 - s_m^2) / 12 are
    replaced by the slopes of their least concave majorant, which is an antitonic regression.

    Args:
        weights: the leaf.
        path: its path.
        spec: the quantizer.

    Returns:
        Falls in squared units of the weights, shaped like the leaf; 0 where the scale does not
        come from the largest unprotected weight.
    """
    shape = weights.shape
    if spec.scale_from == "all" or spec.ranges != "absmax":
        return np.zeros(shape, np.float32)
    view, axes = scale_blocks(jnp.asarray(weights, jnp.float32), path, spec)
    kept = tuple(a for a in range(view.ndim) if a not in axes)
    order = (*kept, *axes)
    blocks = np.transpose(on_host(view), order)
    relief = _block_relief(blocks.reshape(-1, math.prod(blocks.shape[len(kept) :])), spec)
    back = np.transpose(relief.reshape(blocks.shape), np.argsort(order))
    return on_host(from_scale_blocks(jnp.asarray(back), shape, path, spec))


def _block_relief(
    blocks: Float[np.ndarray, "blocks members"], spec: QuantSpec
) -> Float[np.ndarray, "blocks members"]:
    members = blocks.shape[1]
    leaving = min(members - 1, math.ceil(OUTLIERS * members))
    relief = np.zeros(blocks.shape, np.float32)
    if leaving < 1:
        return relief
    low_code, high_code = code_limits(spec)
    for row, block in enumerate(blocks):
        middle = 0.0 if spec.symmetric else (block.max() + block.min()) / 2
        distance = np.abs(block - middle)
        first = np.argpartition(-distance, leaving)[: leaving + 1]
        first = first[np.argsort(-distance[first], kind="stable")]
        if spec.symmetric:
            scale = distance[first] / high_code
        else:
            rest = np.ones(members, bool)
            rest[first] = False
            ordered = np.append(
                block[first], [block[rest].max(initial=0), block[rest].min(initial=0)]
            )
            largest = np.maximum.accumulate(ordered[::-1])[::-1][: leaving + 1]
            smallest = np.minimum.accumulate(ordered[::-1])[::-1][: leaving + 1]
            scale = (np.maximum(largest, 0) - np.minimum(smallest, 0)) / (high_code - low_code)
        falls = -np.diff(np.square(scale.astype(np.float64))) / 12
        relief[row, first[:-1]] = isotonic_regression(falls, increasing=False).x
    return relief


def expected_gain(square: dict, rounded: Rounding, spec: QuantSpec) -> dict[str, Array]:
    """What protecting each weight removes, in nats summed over the statistics' sentences.

    gain_i = 1/2 F_i e_i^2 + 1/2 (sum of F over the block of i) relief_i

    Args:
        square: summed squared gradients, a tree like the params (`Statistics.square`).
        rounded: the quantizer's errors.
        spec: the quantizer.

    Returns:
        Leaf path -> gains, eligible leaves only.
    """
    leaves = leaf_paths(square)
    return {
        path: _gain(leaves[path], error, rounded.relief[path], path, spec)
        for path, error in rounded.error.items()
    }


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _gain(square: Array, error: Array, relief: Array, path: str, spec: QuantSpec) -> Array:
    square = square.astype(jnp.float32)
    view, axes = scale_blocks(square, path, spec)
    of_block = jnp.broadcast_to(jnp.sum(view, axis=axes, keepdims=True), view.shape)
    shared = from_scale_blocks(of_block, square.shape, path, spec)
    return 0.5 * (square * error + shared * relief)


def predicted_damage(square: dict, rounded: Rounding, mask: Mask) -> float:
    """1/2 sum of F e^2 over the unprotected eligible weights, in nats.

    Args:
        square: summed squared gradients.
        rounded: errors at the scales that `mask` leaves.
        mask: what is protected.

    Returns:
        The predicted damage over the statistics' sentences.
    """
    leaves, flags = leaf_paths(square), leaf_paths(mask)
    total = 0.0
    for path, error in rounded.error.items():
        lost = jnp.where(flags[path], 0.0, leaves[path].astype(jnp.float32) * error)
        total += 0.5 * float(jnp.sum(lost))
    return total


Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Shape -> a float32 array of it, in memory or in a file."""


def in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """An array in memory."""
    return np.empty(shape, np.float32)


def stack_gains(
    squares: Mapping[str, dict],
    rounded: Rounding,
    spec: QuantSpec,
    *,
    factor: Callable[[str, dict], float] | None = None,
    allocate: Allocate = in_memory,
) -> dict[str, Float[np.ndarray, "L ..."]]:
    """Every language's gains; each language is looked up once.

    Args:
        squares: language -> summed squared gradients.
        rounded: the quantizer's errors.
        spec: the quantizer.
        factor: (language, its squares) -> what its gains are multiplied by; 1 by default.
        allocate: makes the arrays, which are as large as all languages' statistics together.

    Returns:
        Leaf path -> [L, *leaf] gains in nats.

    Raises:
        InputError: no language, statistics that do not fit the model, or that are all 0 or not
            finite, named by language.
    """
    if not squares:
        raise InputError("`squares` is empty; at least one language is needed")
    relief = {path: jnp.asarray(leaf) for path, leaf in rounded.relief.items()}
    stacked = {path: allocate((len(squares), *e.shape)) for path, e in rounded.error.items()}
    for row, language in enumerate(progress(squares, desc="gains", unit="language")):
        tree = squares[language]
        leaves = leaf_paths(tree)
        _check(language, leaves, rounded)
        times = np.float32(1.0 if factor is None else factor(language, tree))
        for path, error in rounded.error.items():
            gain = _gain(leaves[path], error, relief[path], path, spec)
            np.multiply(on_host(gain), times, out=stacked[path][row])
    return stacked


def _check(language: str, leaves: dict, rounded: Rounding) -> None:
    total = 0.0
    for path, error in rounded.error.items():
        if path not in leaves or leaves[path].shape != error.shape:
            found = leaves[path].shape if path in leaves else "no such leaf"
            raise InputError(
                f"`squares` in {language} at {path}: {found}; the model has {error.shape}"
            )
        total += float(jnp.sum(leaves[path].astype(jnp.float32)))
    if not math.isfinite(total) or total <= 0:
        raise InputError(f"`squares` in {language} sum to {total}; they must be finite and above 0")
