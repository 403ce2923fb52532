"""The loss and its per-sentence gradient moments at the head, by tiles of the vocabulary."""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.products import einsum
from jaxprotect.selection.per_sentence import gradient_moments
from jaxprotect.selection.statistics import InputStatistics

ROWS = 1024
"""Rows of the vocabulary whose logits are made at a time."""


@struct.dataclass
class HeadMoments:
    """What the head says of a batch.

    Args:
        nats: [B] loss of each row.
        hidden: [B, T, D] its gradient at the hidden states.
        gradient: [V, D] sum over rows of the gradient at the table.
        absolute: [V, D] sum of its absolute values.
        square: [V, D] sum of its squares.
        log_normalizer: [B, T] ln sum_v exp(logit_v).
        labels: [B, T] the targets.
        logit_largest: [V] largest |logit| over the valid positions.
    """

    nats: Float[Array, "B"]
    hidden: Float[Array, "B T D"]
    gradient: Float[Array, "V D"]
    absolute: Float[Array, "V D"]
    square: Float[Array, "V D"]
    log_normalizer: Float[Array, "B T"]
    labels: Int[Array, "B T"]
    logit_largest: Float[Array, "V"]


def head_moments(
    table: Float[Array, "V D"],
    hidden: Float[Array, "B T D"],
    labels: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    valid: Bool[Array, "B T"],
    uniform: Float[Array, "B T"] | None = None,
) -> HeadMoments:
    """Cross entropy of logits = hidden table^T, and the moments of its per-row gradients.

    The gradient of row i at the table is P_i^T H_i with P = softmax - onehot, 0 where a position
    is not scored. Logits are made twice, a tile of the vocabulary at a time, and never kept.

    Args:
        table: one row per token.
        hidden: what the head reads.
        labels: targets; ignored where `uniform` is given.
        scored: whether a position counts.
        valid: whether a position belongs to a sentence.
        uniform: draws in [0, 1); the targets are then sampled from the model itself by the
            inverse of its cumulative distribution.

    Returns:
        Loss, gradient at the hidden states, moments at the table.
    """
    vocabulary, width = table.shape
    rows = min(vocabulary, ROWS)
    tiles = math.ceil(vocabulary / rows)
    padded = jnp.pad(table, ((0, tiles * rows - vocabulary), (0, 0)))
    table_NxRxD = padded.reshape(tiles, rows, width)
    first_N = jnp.arange(tiles) * rows
    shape = hidden.shape[:2]

    def logits_of(tile_RxD: Array, first: Array) -> Array:
        logits = einsum("btd,rd->btr", hidden, tile_RxD).astype(jnp.float32)
        return jnp.where(first + jnp.arange(rows) < vocabulary, logits, -jnp.inf)

    def normalise(carry: tuple[Array, Array], tile: tuple) -> tuple[tuple[Array, Array], Array]:
        highest, total = carry
        logits = logits_of(*tile)
        now = jnp.maximum(highest, logits.max(axis=-1))
        total = total * jnp.exp(highest - now) + jnp.exp(logits - now[..., None]).sum(axis=-1)
        seen = jnp.where(valid[..., None] & jnp.isfinite(logits), jnp.abs(logits), 0.0)
        return (now, total), seen.max(axis=(0, 1))

    start = (jnp.full(shape, -jnp.inf), jnp.zeros(shape))
    (highest, total), largest = jax.lax.scan(normalise, start, (table_NxRxD, first_N))
    log_normalizer = highest + jnp.log(total)
    if uniform is not None:
        labels = _sample(logits_of, (table_NxRxD, first_N), log_normalizer, uniform, vocabulary)
    chosen = einsum("btd,btd->bt", hidden, table[labels])

    def backward(d_hidden: Array, tile: tuple) -> tuple[Array, tuple[Array, Array, Array]]:
        tile_RxD, first = tile
        probability = jnp.exp(logits_of(tile_RxD, first) - log_normalizer[..., None])
        p_BxTxR = probability - (labels[..., None] == first + jnp.arange(rows))
        p_BxTxR = jnp.where(scored[..., None], p_BxTxR, 0.0)
        d_hidden = d_hidden + einsum("btr,rd->btd", p_BxTxR, tile_RxD)
        return d_hidden, gradient_moments(p_BxTxR, hidden)

    d_hidden, moments = jax.lax.scan(backward, jnp.zeros_like(hidden), (table_NxRxD, first_N))
    gradient, absolute, square = (m.reshape(-1, width)[:vocabulary] for m in moments)
    return HeadMoments(
        nats=jnp.sum(jnp.where(scored, log_normalizer - chosen, 0.0), axis=-1),
        hidden=d_hidden,
        gradient=gradient,
        absolute=absolute,
        square=square,
        log_normalizer=log_normalizer,
        labels=labels,
        logit_largest=largest.reshape(-1)[:vocabulary],
    )


def _sample(logits_of, tiles: tuple, log_normalizer: Array, uniform: Array, vocabulary: int):
    """How many tokens the cumulative probability passes before it reaches the draw."""

    def step(carry: tuple[Array, Array], tile: tuple) -> tuple[tuple[Array, Array], None]:
        below, passed = carry
        probability = jnp.exp(logits_of(*tile) - log_normalizer[..., None])
        cumulative = below[..., None] + jnp.cumsum(probability, axis=-1)
        passed = passed + jnp.sum(cumulative <= uniform[..., None], axis=-1)
        return (cumulative[..., -1], passed), None

    start = (jnp.zeros_like(uniform), jnp.zeros(uniform.shape, jnp.int32))
    (_, passed), _ = jax.lax.scan(step, start, tiles)
    return jnp.minimum(passed, vocabulary - 1)


def head_inputs(
    hidden: Float[Array, "B T D"],
    head: HeadMoments,
    valid: Bool[Array, "B T"],
    positions: Float[Array, ""],
) -> InputStatistics:
    """What flows into and out of the head.

    Args:
        hidden: what it reads.
        head: what it says; a bias is part of its largest logits.
        valid: which positions count.
        positions: how many.

    Returns:
        The statistics of the head's table.
    """
    real = jnp.where(valid[..., None], jnp.abs(hidden), 0.0)
    return InputStatistics(
        absolute=jnp.sum(real, axis=(0, 1)),
        square=jnp.sum(jnp.square(real), axis=(0, 1)),
        largest=jnp.max(real, axis=(0, 1)),
        output_largest=head.logit_largest,
        positions=positions,
    )


def add_lookup(
    head: HeadMoments,
    table: Float[Array, "V D"],
    tokens: Int[Array, "B T"],
    hidden: Float[Array, "B T D"],
    scored: Bool[Array, "B T"],
    d_lookup: Float[Array, "B T D"],
) -> tuple[Float[Array, "V D"], Float[Array, "V D"], Float[Array, "V D"]]:
    """Moments of a table that is looked up at the input and used again as the head.

    The gradient of row i is a_i + b_i, a_i from the head (dense) and b_i from the lookup (only at
    the tokens of row i). Moments of the sum are those of a_i, corrected at those tokens, where
    a_i is made again: |a_i + b_i| - |a_i| and (a_i + b_i)^2 - a_i^2.

    Args:
        head: moments of a_i.
        table: the shared table.
        tokens: [B, T] what was looked up.
        hidden: what the head read.
        scored: whether a position counts.
        d_lookup: gradient at what was looked up.

    Returns:
        sum_i g_i, sum_i |g_i| and sum_i g_i^2 of the table.
    """
    rows_BxTxD = table[tokens]
    logits_BxTxS = einsum("btd,bsd->bts", hidden, rows_BxTxD).astype(jnp.float32)
    p_BxTxS = jnp.exp(logits_BxTxS - head.log_normalizer[..., None])
    p_BxTxS = p_BxTxS - (head.labels[:, :, None] == tokens[:, None, :])
    a_BxSxD = einsum("bts,btd->bsd", jnp.where(scored[..., None], p_BxTxS, 0.0), hidden)
    return _corrected(head.gradient, head.absolute, head.square, tokens, a_BxSxD, d_lookup)


def lookup_moments(
    table: Float[Array, "V D"], tokens: Int[Array, "B T"], d_lookup: Float[Array, "B T D"]
) -> tuple[Float[Array, "V D"], Float[Array, "V D"], Float[Array, "V D"]]:
    """Moments of a table that is only looked up: `add_lookup` without a head.

    Args:
        table: gives the shape.
        tokens: [B, T] what was looked up.
        d_lookup: gradient at what was looked up.

    Returns:
        sum_i g_i, sum_i |g_i| and sum_i g_i^2 of the table.
    """
    zeros = jnp.zeros(table.shape, jnp.float32)
    return _corrected(zeros, zeros, zeros, tokens, jnp.zeros_like(d_lookup), d_lookup)


def _corrected(
    gradient: Array, absolute: Array, square: Array, tokens: Array, a: Array, d_lookup: Array
) -> tuple[Array, Array, Array]:
    same_BxSxT = tokens[:, :, None] == tokens[:, None, :]
    b_BxSxD = einsum("bst,btd->bsd", same_BxSxT.astype(d_lookup.dtype), d_lookup)
    # A token that occurs again in its row has been counted at its first place.
    first_BxS = jnp.argmax(same_BxSxT, axis=-1) == jnp.arange(tokens.shape[1])
    both = a + b_BxSxD
    once = first_BxS[..., None]
    gradient = gradient.at[tokens].add(d_lookup)
    absolute = absolute.at[tokens].add(jnp.where(once, jnp.abs(both) - jnp.abs(a), 0.0))
    square = square.at[tokens].add(jnp.where(once, jnp.square(both) - jnp.square(a), 0.0))
    return gradient, jnp.maximum(absolute, 0.0), jnp.maximum(square, 0.0)
