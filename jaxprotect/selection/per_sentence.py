"""Moments of per-sentence gradients as by-products of one backward pass.

A matrix product y = x W whose backward pass also returns, as the cotangents of dummy arguments,
sum_i |g_i| and sum_i g_i^2 with g_i = x_i^T dy_i the gradient of sentence i, and what flowed
through. One tile of W at a time, all sentences over it while its sums are in cache; no tree of
per-sentence gradients ever exists.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxprotect.models.sharding import whole
from jaxprotect.products import einsum
from jaxprotect.selection.statistics import InputStatistics

TILE = 2**17
"""Most weights whose sums are kept at once (three float32 sums: 1.5 MiB)."""


@struct.dataclass
class Probes:
    """Dummy arguments of a measured product; their cotangents are the measurements.

    Fields are not type-checked: JAX fills pytrees with placeholders while it differentiates.

    Args:
        absolute: like the kernel: sum_i |g_i|.
        square: like the kernel: sum_i g_i^2.
        input_absolute: like the inputs: sum of |x|.
        input_square: like the inputs: sum of x^2.
        input_largest: like the inputs: largest |x|.
        output_largest: like the outputs: largest |y|.
    """

    absolute: Any
    square: Any
    input_absolute: Any
    input_square: Any
    input_largest: Any
    output_largest: Any

    def inputs(self, positions: Array) -> InputStatistics:
        """What flowed through, as statistics.

        Args:
            positions: how many positions were measured.

        Returns:
            The measurements that are not gradients.
        """
        return InputStatistics(
            absolute=self.input_absolute,
            square=self.input_square,
            largest=self.input_largest,
            output_largest=self.output_largest,
            positions=positions,
        )


@struct.dataclass
class MeasuredKernel:
    """A kernel that stands in for an array in the params and measures its own product.

    Args:
        kernel: the weights.
        probes: zeros; see `Probes`.
        valid: [B, T] 1 where a position belongs to a sentence, 0 in padding.
        joined: all rows are of one sentence, whose gradient is the sum of theirs (static).
    """

    kernel: Any
    probes: Probes
    valid: Any
    joined: bool = struct.field(pytree_node=False, default=False)

    def project(self, x: Float[Array, "B T ..."], equation: str) -> Float[Array, "B T ..."]:
        """`jnp.einsum(equation, x, kernel)`."""
        return _product(x, self.kernel, self.probes, self.valid, equation, self.joined)


def is_measured(leaf: Any) -> bool:
    """Whether a leaf is a `MeasuredKernel`."""
    return isinstance(leaf, MeasuredKernel)


def by_path(tree: dict) -> dict[str, Any]:
    """Leaf path -> leaf of a tree with measured kernels."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_measured)
    return {"/".join(entry.key for entry in path): leaf for path, leaf in leaves}


def make_probes(kernel: Array, inputs: tuple[int, ...], layer: bool) -> Probes:
    """Zeros of a kernel's shape and of its inputs' and outputs'.

    Args:
        kernel: the weights, stacked by layer or not.
        inputs: its contracted axes.
        layer: whether axis 0 stacks layers.

    Returns:
        The probes.
    """
    lead = (0,) if layer else ()
    outputs = [a for a in range(kernel.ndim) if a not in inputs and a not in lead]
    into = jnp.zeros([kernel.shape[a] for a in (*lead, *inputs)], jnp.float32)
    out = jnp.zeros([kernel.shape[a] for a in (*lead, *outputs)], jnp.float32)
    weights = jnp.zeros(kernel.shape, jnp.float32)
    return Probes(
        absolute=weights,
        square=weights,
        input_absolute=into,
        input_square=into,
        input_largest=into,
        output_largest=out,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _product(
    x: Array, kernel: Array, probes: Probes, valid: Array, equation: str, joined: bool
) -> Array:
    return einsum(equation, x, kernel)


def _product_forward(
    x: Array, kernel: Array, probes: Probes, valid: Array, equation: str, joined: bool
) -> tuple[Array, tuple]:
    y = einsum(equation, x, kernel)
    largest = jnp.max(jnp.abs(y) * _like(valid, y), axis=(0, 1))
    return y, (x, kernel, valid, largest)


def _product_backward(equation: str, joined: bool, residuals: tuple, dy: Array) -> tuple:
    x, kernel, valid, output_largest = residuals
    inputs, rest = equation.split(",")
    into, out = rest.split("->")
    dx = einsum(f"{out},{into}->{inputs}", whole(dy), whole(kernel))
    batch, length = (1, x.shape[0] * x.shape[1]) if joined else x.shape[:2]
    # The gradient as [inputs, outputs], whatever the axes are called.
    total, absolute, square = (
        moment.reshape(*x.shape[2:], *dy.shape[2:])
        for moment in gradient_moments(x.reshape(batch, length, -1), dy.reshape(batch, length, -1))
    )
    axes = f"{inputs[2:]}{out[2:]}->{into}"
    real = jnp.abs(x) * _like(valid, x)
    probes = Probes(
        absolute=jnp.einsum(axes, absolute),
        square=jnp.einsum(axes, square),
        input_absolute=jnp.sum(real, axis=(0, 1)),
        input_square=jnp.sum(jnp.square(real), axis=(0, 1)),
        input_largest=jnp.max(real, axis=(0, 1)),
        output_largest=output_largest,
    )
    return dx, jnp.einsum(axes, total), probes, jnp.zeros_like(valid)


_product.defvjp(_product_forward, _product_backward)


def gradient_moments(
    x: Float[Array, "B T I"], dy: Float[Array, "B T O"]
) -> tuple[Float[Array, "I O"], Float[Array, "I O"], Float[Array, "I O"]]:
    """sum_i g_i, sum_i |g_i| and sum_i g_i^2 of g_i = x_i^T dy_i, i over the batch.

    Args:
        x: inputs of a matrix.
        dy: cotangents of its outputs; 0 in padding.

    Returns:
        The three sums, in float32.
    """
    batch, length, width = x.shape
    outputs = dy.shape[-1]
    rows = max(1, min(width, TILE // outputs))
    tiles = math.ceil(width / rows)
    padded = jnp.pad(x, ((0, 0), (0, 0), (0, tiles * rows - width)))
    x_NxBxTxR = padded.reshape(batch, length, tiles, rows).transpose(2, 0, 1, 3)

    def of_tile(x_BxTxR: Array) -> tuple[Array, Array, Array]:
        def add(
            sums: tuple[Array, Array, Array], sentence: tuple[Array, Array]
        ) -> tuple[Any, None]:
            x_TxR, dy_TxO = sentence
            g_RxO = einsum("tr,to->ro", x_TxR, dy_TxO, preferred_element_type=jnp.float32)
            total, absolute, square = sums
            return (total + g_RxO, absolute + jnp.abs(g_RxO), square + jnp.square(g_RxO)), None

        zeros = jnp.zeros((rows, outputs), jnp.float32)
        sums, _ = jax.lax.scan(add, (zeros, zeros, zeros), (x_BxTxR, dy))
        return sums

    moments = jax.lax.map(of_tile, x_NxBxTxR)
    total, absolute, square = (m.reshape(tiles * rows, outputs)[:width] for m in moments)
    return total, absolute, square


def _like(valid: Array, values: Array) -> Array:
    return valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
