"""Rounding one input after the other, while the inputs that remain make up for the error.

For one output with weights w and inputs x, the squared output error of rounding errors e is
e^T H e with H = sum_t x_t x_t^T. Input j is rounded to q_j; the weights that are still free move to
where that hurts least: w_F -= (w_j - q_j) / [H_F^-1]_jj * [H_F^-1]_j, F the inputs from j on. The
rows needed are those of the upper Cholesky factor of H^-1, for all outputs at once.

A protected weight stays what it is. It is an input whose only level is its own value: what earlier
errors would have moved it by is handed on to the inputs after it.

Source: Frantar, Ashkboos, Hoefler and Alistarh, GPTQ, arXiv:2210.17323; the treatment of protected
weights, and keeping plain rounding where it is better, are this project's.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.linalg import solve_triangular

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.products import einsum
from jaxprotect.quantization.blocks import from_scale_blocks, scale_blocks
from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.grid import KEPT, Bits, block_bits
from jaxprotect.quantization.levels import Grid, code_limits
from jaxprotect.quantization.quantize import quantize_leaf
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """How errors are made up for.

    Args:
        damping: added to the diagonal of H, as a share of its mean.
        block: inputs whose errors reach the inputs after the block in one product.
        largest_first: inputs of the largest second moment first, while most weights are free to
            make up for them; else in their order.
    """

    damping: float = 0.01
    block: int = 128
    largest_first: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be solved."""
        if not self.damping > 0:
            raise InputError(f"`damping` is {self.damping}; it must be above 0")
        if self.block < 1:
            raise InputError(f"`block` is {self.block}; it must be at least 1")


def compensate_leaf(
    weights: Float[Array, "..."],
    protected: Bool[Array, "..."],
    path: str,
    spec: QuantSpec,
    grid: Grid,
    moments: Float[Array, "*layer I I"],
    *,
    options: Compensation = Compensation(),
    bits: Bits | None = None,
) -> Float[Array, "..."]:
    """Weights on the levels of a grid whose outputs err less than those of plain rounding.

    Outputs that plain rounding serves better are rounded plainly, so that
    sum_t |x_t (W_q - W)|^2 is at most that of plain rounding, output by output.

    Args:
        weights: a matrix, or stacked ones; not a lookup table.
        protected: True = keep; broadcastable to `weights`.
        path: leaf path.
        spec: the quantizer.
        grid: of the leaf.
        moments: sum over positions of x x^T, x the contracted axes in one; of each layer.
        options: how.
        bits: see `grid.Bits`; channels of 16 bits are kept.

    Returns:
        The leaf: levels of the grid, and protected weights as they were. Quantizing it with the
        same mask and grid changes nothing but how protected weights are stored.

    Raises:
        InputError: a leaf that is not the kernel of a product, or moments of another shape, not
            finite, or not positive definite with the damping.
    """
    inputs = _inputs(weights, path)
    stacked = layer_axis(path) is not None
    expected = (*weights.shape[: int(stacked)], inputs, inputs)
    if moments.shape != expected:
        raise InputError(
            f"`moments` at {path} have shape {moments.shape}; the model has {expected}"
        )
    protected = jnp.broadcast_to(protected, weights.shape)
    plain = quantize_leaf(weights, protected, path, spec, bits=bits, grid=grid)
    fixed = protected
    if bits is not None and path in bits:
        fixed = protected | (jnp.asarray(bits[path]) == KEPT)
    levels = _levels(weights, path, spec, grid, bits)

    def matrices(leaf: Array) -> Array:
        return leaf.reshape(-1, inputs, leaf.size // (inputs * (len(leaf) if stacked else 1)))

    of_leaf = jax.tree.map(matrices, (weights.astype(jnp.float32), fixed, plain, levels))
    solved = []
    for layer, moment in enumerate(moments.reshape(-1, inputs, inputs)):
        kernel, kept, usual, of_kernel = jax.tree.map(lambda leaf, i=layer: leaf[i], of_leaf)
        solved.append(_better_of_both(kernel, kept, usual, of_kernel, moment, path, options))
    compensated = jnp.stack(solved).reshape(weights.shape).astype(weights.dtype)
    # Through the codes, so that every level is the one that they decode to.
    exact = quantize_leaf(compensated, jnp.zeros((), bool), path, spec, bits=bits, grid=grid)
    return jnp.where(fixed, weights, exact)


def output_error(change: Float[Array, "I O"], moment: Float[Array, "I I"]) -> Float[Array, "O"]:
    """sum_t (x_t change)^2 of each output: the diagonal of change^T H change."""
    return jnp.sum(change * einsum("ij,jo->io", moment, change), axis=0)


def _inputs(weights: Array, path: str) -> int:
    if not path.endswith("/kernel"):
        raise InputError(f"`path` is {path!r}; only kernels of products have inputs to weigh")
    return int(np.prod([weights.shape[axis] for axis in contracted_axes(path)]))


def _levels(
    weights: Array, path: str, spec: QuantSpec, grid: Grid, bits: Bits | None
) -> tuple[Array, ...]:
    """Scale, zero, smallest and largest code of every weight, shaped like the leaf."""
    view, _ = scale_blocks(weights, path, spec)
    limits = code_limits(spec, block_bits(bits, path, spec))

    def spread(values: Array | int) -> Array:
        whole = jnp.broadcast_to(jnp.asarray(values, jnp.float32), view.shape)
        return from_scale_blocks(whole, weights.shape, path, spec)

    return tuple(spread(values) for values in (grid.scale, grid.zero, *limits))


def _better_of_both(
    weights: Array,
    fixed: Array,
    plain: Array,
    levels: tuple[Array, ...],
    moment: Array,
    path: str,
    options: Compensation,
) -> Array:
    """One matrix [I, O]: each output by whichever of both roundings errs less."""
    diagonal = np.diagonal(on_host(moment))
    order = np.arange(len(diagonal))
    if options.largest_first:
        order = np.argsort(-diagonal, kind="stable")
    exact = on_host(moment).astype(np.float64)
    factor = _factor(exact[np.ix_(order, order)], path, options.damping)
    size = min(options.block, len(order))
    padding = -len(order) % size

    def arrange(leaf: Array, fill: float | bool) -> Array:
        return jnp.pad(leaf[order], ((0, padding), (0, 0)), constant_values=fill)

    rounded = _solve(
        arrange(weights, 0.0),
        arrange(fixed, True),
        arrange(plain, 0.0),
        tuple(arrange(of_weight, 1.0) for of_weight in levels),
        jnp.asarray(_pad_factor(factor, padding), jnp.float32),
        size,
    )[np.argsort(order)]
    compensated, usual = (output_error(q - weights, moment) for q in (rounded, plain))
    return jnp.where(compensated < usual, rounded, plain)


def _factor(moment: np.ndarray, path: str, damping: float) -> np.ndarray:
    """Upper triangular U with U^T U the inverse of the damped moment.

    With the order of inputs reversed, H = L L^T, so H = R R^T with an upper triangular R, and
    U = R^-1.
    """
    mean = float(np.mean(np.diagonal(moment)))
    damped = moment + (damping * mean if mean > 0 else 1.0) * np.eye(len(moment))
    try:
        if not np.isfinite(damped).all():
            raise np.linalg.LinAlgError
        lower = np.linalg.cholesky(damped[::-1, ::-1])
    except np.linalg.LinAlgError:
        raise InputError(
            f"`moments` at {path} are not finite and positive definite with `damping` {damping}"
        ) from None
    return solve_triangular(lower[::-1, ::-1], np.eye(len(moment)))


def _pad_factor(factor: np.ndarray, padding: int) -> np.ndarray:
    padded = np.eye(len(factor) + padding)
    padded[: len(factor), : len(factor)] = factor
    return padded


@functools.partial(jax.jit, static_argnames="size")
def _solve(
    weights: Float[Array, "I O"],
    fixed: Bool[Array, "I O"],
    targets: Float[Array, "I O"],
    levels: tuple[Array, ...],
    factor: Float[Array, "I I"],
    size: int,
) -> Float[Array, "I O"]:
    """Round rows in order; the errors of a block reach the rows after it in one product."""
    inputs = weights.shape[0]

    def of_block(moved: Array, start: Array) -> tuple[Array, Array]:
        def rows(leaf: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(leaf, start, size)

        factor_SxI = rows(factor)
        inner_SxS = jax.lax.dynamic_slice_in_dim(factor_SxI, start, size, axis=1)
        fixed_SxO, target_SxO = rows(fixed), rows(targets)
        scale, zero, low, high = (rows(of_weight) for of_weight in levels)

        def step(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            moved_SxO, rounded_SxO, error_SxO = carry
            codes = jnp.round(exact_divide(moved_SxO[j], scale[j])) + zero[j]
            level = (jnp.clip(codes, low[j], high[j]) - zero[j]) * scale[j]
            rounded = jnp.where(fixed_SxO[j], target_SxO[j], level)
            error = (moved_SxO[j] - rounded) / inner_SxS[j, j]
            # Rows before j get 0: the factor is upper triangular; row j is not read again.
            moved_SxO = moved_SxO - inner_SxS[j][:, None] * error
            return moved_SxO, rounded_SxO.at[j].set(rounded), error_SxO.at[j].set(error)

        moved_SxO = rows(moved)
        start_of = (moved_SxO, jnp.zeros_like(moved_SxO), jnp.zeros_like(moved_SxO))
        _, rounded_SxO, error_SxO = jax.lax.fori_loop(0, size, step, start_of)
        return moved - einsum("si,so->io", factor_SxI, error_SxO), rounded_SxO

    _, rounded = jax.lax.scan(of_block, weights, jnp.arange(0, inputs, size))
    return rounded.reshape(inputs, -1)
