"""What one language says of every weight: sums of per-sentence gradients, and its inputs."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxprotect.errors import InputError


@struct.dataclass
class InputStatistics:
    """What flows into and out of one matrix, over the positions of all sentences.

    Args:
        absolute: sum of |x| of each input; [layer?, *contracted axes].
        square: sum of x^2, same shape.
        largest: largest |x|, same shape.
        output_largest: largest |y| of each output channel; [layer?, *output axes].
        positions: how many positions.
    """

    absolute: Float[Array, "..."]
    square: Float[Array, "..."]
    largest: Float[Array, "..."]
    output_largest: Float[Array, "..."]
    positions: Float[Array, ""]


@struct.dataclass
class Statistics:
    """Sums over one language's sentences; g_i is the gradient of sentence i's summed nats.

    Args:
        gradient: tree like the params: sum_i g_i.
        absolute: sum_i |g_i|.
        square: sum_i g_i^2; divided by `sentences`, the diagonal of the empirical Fisher matrix.
        inputs: matrix's leaf path -> what flows through it; for a tied head under `embed/tokens`.
        sentences: how many.
        tokens: how many were scored.
    """

    gradient: dict
    absolute: dict
    square: dict
    inputs: dict[str, InputStatistics]
    sentences: int = struct.field(pytree_node=False, default=0)
    tokens: int = struct.field(pytree_node=False, default=0)


def add_inputs(first: InputStatistics, second: InputStatistics) -> InputStatistics:
    """What flows through one matrix in both sets of sentences."""
    return InputStatistics(
        absolute=first.absolute + second.absolute,
        square=first.square + second.square,
        largest=jnp.maximum(first.largest, second.largest),
        output_largest=jnp.maximum(first.output_largest, second.output_largest),
        positions=first.positions + second.positions,
    )


def add(first: Statistics, second: Statistics) -> Statistics:
    """The statistics of both sets of sentences together."""
    return Statistics(
        gradient=jax.tree.map(jnp.add, first.gradient, second.gradient),
        absolute=jax.tree.map(jnp.add, first.absolute, second.absolute),
        square=jax.tree.map(jnp.add, first.square, second.square),
        inputs={path: add_inputs(of, second.inputs[path]) for path, of in first.inputs.items()},
        sentences=first.sentences + second.sentences,
        tokens=first.tokens + second.tokens,
    )


def pool(statistics: Sequence[Statistics]) -> Statistics:
    """The statistics of several languages as if they were one.

    Args:
        statistics: one per language, of the same model.

    Returns:
        Their sums; of `largest` the maximum.

    Raises:
        InputError: no statistics given.
    """
    if not statistics:
        raise InputError("`statistics` is empty; at least one language is needed")
    total = statistics[0]
    for more in statistics[1:]:
        total = add(total, more)
    return total
