"""Ranges of blocks from their weights alone: the largest, a percentile, the least squared error.

A range narrower than the largest weight clips a few weights and rounds all others more finely.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.errors import InputError
from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.levels import Grid, code_limits, counted_range, grid_of_range
from jaxprotect.quantization.spec import QuantSpec

PERCENTILE = 99.9
"""Of |w|: in a block of fewer than a thousand weights it lies between the two largest."""

COARSE = np.linspace(1.0, 0.1, 31, dtype=np.float32)
"""Clip ratios that are tried first; 1 is absmax."""

FINE = np.linspace(-0.03, 0.03, 21, dtype=np.float32)[1:-1]
"""Steps around the best of them that are tried next."""


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
    return grid_of_range(*counted_range(view, counted, axes, spec), spec, bits)


def percentile_grid(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
    *,
    percentile: float = PERCENTILE,
) -> Grid:
    """The grid that reaches to a percentile of the counted weights of each block.

    Symmetric: the percentile of |w|. Asymmetric: from the (100 - percentile)-th to the
    percentile-th of w, widened to include 0. Between two weights it is interpolated.

    Args:
        view: blocked weights.
        counted: True where a weight takes part.
        axes: axes of a block.
        spec: the quantizer.
        bits: of each block, if not `spec.bits`.
        percentile: above 50, at most 100, which is absmax.

    Returns:
        The grid.

    Raises:
        InputError: `percentile` out of range.
    """
    if not 50 < percentile <= 100:
        raise InputError(f"`percentile` is {percentile}; allowed are numbers above 50 up to 100")

    def end(values: Array, share: float) -> Array:
        found = jnp.nanpercentile(
            jnp.where(counted, values, jnp.nan), share, axis=axes, keepdims=True
        )
        return jnp.where(jnp.isnan(found), 0.0, found)  # a block without counted weights

    if spec.symmetric:
        reach = end(jnp.abs(view), percentile)
        return grid_of_range(-reach, reach, spec, bits)
    low = jnp.minimum(end(view, 100 - percentile), 0.0)
    high = jnp.maximum(end(view, percentile), 0.0)
    return grid_of_range(low, high, spec, bits)


def mse_grid(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
    *,
    importance: Float[Array, "..."] | None = None,
) -> Grid:
    """The grid of the least squared error of each block, over absmax ranges times a ratio.

    argmin over ratio of sum_i importance_i (Q(w_i; ratio * range) - w_i)^2: ratios 1 to 0.1 in
    steps of 0.03, then around the best one in steps of 0.003. Never worse than absmax; one ratio
    at a time is in memory. Where every importance of a block is 0, all its weights count alike.

    Args:
        view: blocked weights.
        counted: True where a weight takes part, in the range and in the error.
        axes: axes of a block.
        spec: the quantizer.
        bits: of each block, if not `spec.bits`.
        importance: of each weight, at least 0, broadcastable to `view`; all alike if not given.

    Returns:
        The grid.
    """
    counted = jnp.broadcast_to(counted, view.shape)
    weight = counted.astype(jnp.float32)
    if importance is not None:
        weighted = jnp.where(counted, importance.astype(jnp.float32), 0.0)
        some = jnp.sum(weighted, axis=axes, keepdims=True) > 0
        weight = jnp.where(some, weighted, weight)
    low, high = counted_range(view, counted, axes, spec)
    limits = code_limits(spec, bits)

    def error(ratio: Array) -> Array:
        grid = grid_of_range(low * ratio, high * ratio, spec, bits)
        codes = jnp.clip(jnp.round(exact_divide(view, grid.scale)) + grid.zero, *limits)
        lost = jnp.square((codes - grid.zero) * grid.scale - view)
        return jnp.sum(weight * lost, axis=axes, keepdims=True)

    def search(best: tuple[Array, Array], ratios: Array) -> tuple[Array, Array]:
        def step(best: tuple[Array, Array], ratio: Array) -> tuple[tuple[Array, Array], None]:
            least, of_least = best
            tried = jnp.broadcast_to(ratio, least.shape)
            found = error(tried)
            better = found < least
            return (jnp.where(better, found, least), jnp.where(better, tried, of_least)), None

        return jax.lax.scan(step, best, ratios)[0]

    whole = jnp.ones_like(high)
    least, ratio = search((error(whole), whole), jnp.asarray(COARSE[1:]))
    around = jnp.clip(ratio + FINE.reshape(-1, *[1] * ratio.ndim), 0.0, 1.0)
    _, ratio = search((least, ratio), around)
    return grid_of_range(low * ratio, high * ratio, spec, bits)
