"""The tiled head against dense logits, row by row; and labels drawn from the model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.selection import head_moments as module
from jaxprotect.selection.head_moments import add_lookup, head_moments, lookup_moments

VOCABULARY, BATCH, LENGTH, WIDTH = 600, 4, 5, 3
LENGTHS = (5, 3, 1, 0)  # the last row is empty
VALID = np.arange(LENGTH) < np.array(LENGTHS)[:, None]
SCORED = VALID & (np.arange(LENGTH) != 1)  # position 1 is context only


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


TABLE, HIDDEN = draw(VOCABULARY, WIDTH), draw(BATCH, LENGTH, WIDTH)
LABELS = np.random.default_rng(2).integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32)
LABELS[0, :3] = 0, VOCABULARY - 1, 256  # ends of the vocabulary, start of the second tile
UNIFORM = np.random.default_rng(3).random((BATCH, LENGTH), np.float32)
UNIFORM[0, :3] = 0.0, 1 - 2**-24, 0.5


@functools.cache
def jitted(tiles):
    # A function of its own for each number of tiles: jit would not see that `ROWS` has changed.
    return jax.jit(lambda *arrays: head_moments(*arrays))


def in_tiles(tiles, labels=LABELS, scored=SCORED, uniform=None):
    """600 tokens in one tile, or in two of 256 and a rest of 88."""
    with pytest.MonkeyPatch.context() as patch:
        if tiles == 3:
            patch.setattr(module, "ROWS", 256)
        return jitted(tiles)(TABLE, HIDDEN, labels, scored, VALID, uniform)


@functools.cache
def dense():
    """Each row's nats, and its gradients at the table and at the hidden states."""

    def row(table, hidden, labels, scored):
        log_p = jax.nn.log_softmax(hidden @ table.T)
        chosen = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
        return -jnp.sum(jnp.where(scored, chosen, 0.0))

    of_rows = jax.vmap(jax.value_and_grad(row, argnums=(0, 1)), in_axes=(None, 0, 0, 0))
    nats, (table, hidden) = jax.jit(of_rows)(TABLE, HIDDEN, LABELS, SCORED)
    return np.asarray(nats), np.asarray(table), np.asarray(hidden)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize("tiles", [1, 3])
def test_the_head_is_dense_cross_entropy_row_by_row(tiles):
    got = in_tiles(tiles)
    nats, table, hidden = dense()
    close(got.nats, nats)
    close(got.hidden, hidden)
    close(got.gradient, table.sum(axis=0))
    close(got.absolute, np.abs(table).sum(axis=0))
    close(got.square, np.square(table).sum(axis=0))
    np.testing.assert_array_equal(got.labels, LABELS)
    logits = HIDDEN @ TABLE.T
    close(got.log_normalizer, np.log(np.exp(logits).sum(axis=-1)))
    close(got.logit_largest, np.abs(logits)[VALID].max(axis=0))


@pytest.mark.parametrize("tiles", [1, 3])
def test_labels_are_drawn_by_the_inverse_of_the_cumulative_distribution(tiles):
    logits = (HIDDEN @ TABLE.T).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    cumulative = np.cumsum(p, axis=-1)
    labels = np.asarray(in_tiles(tiles, uniform=UNIFORM).labels)
    want = (cumulative <= UNIFORM[..., None]).sum(axis=-1)
    # Where a draw is within rounding of a step, either side of it will do.
    near = np.abs(cumulative - UNIFORM[..., None]).min(axis=-1) < 1e-5
    assert near.sum() <= 2
    assert (np.abs(labels - want) <= near).all()
    assert labels[0, 0] == 0
    assert labels[0, 1] < VOCABULARY
    assert (labels // 256 == 2).any()  # one is drawn from the last tile


def test_moments_under_drawn_labels_are_those_of_these_labels():
    drawn = in_tiles(3, uniform=UNIFORM)
    given = in_tiles(3, labels=drawn.labels)
    close(drawn.nats, given.nats)
    close(drawn.hidden, given.hidden)
    close(drawn.square, given.square)


TOKENS = np.array([[7, 9, 7, 7, 9], [0, 7, 0, 0, 0], [5, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
"""Repeated tokens, and token 0 both as text and as padding."""


def of_lookup(d_lookup):
    """[B, V, D] each row's own gradient at the table it looked up."""
    table = np.zeros((BATCH, VOCABULARY, WIDTH), np.float32)
    for row in range(BATCH):
        np.add.at(table[row], TOKENS[row], d_lookup[row])
    return table


def assert_moments(got, per_row):
    wanted = (per_row, np.abs(per_row), np.square(per_row))
    for moment, want in zip(got, wanted, strict=True):
        close(moment, want.sum(axis=0))


def test_a_lookup_alone_sums_repeated_tokens_before_it_squares():
    d_lookup = draw(BATCH, LENGTH, WIDTH, seed=4) * VALID[..., None]
    got = lookup_moments(*map(jnp.asarray, (TABLE, TOKENS, d_lookup)))
    assert_moments(got, of_lookup(d_lookup))


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_a_tied_table_sums_lookup_and_head_before_it_squares(scale):
    d_lookup = scale * draw(BATCH, LENGTH, WIDTH, seed=4) * VALID[..., None]
    got = add_lookup(
        in_tiles(1), *map(jnp.asarray, (TABLE, TOKENS, HIDDEN, SCORED, d_lookup.astype(np.float32)))
    )
    assert_moments(got, dense()[1] + of_lookup(d_lookup))


def test_moments_are_never_negative():
    """A lookup that takes away all that the head gave leaves rounding, not less than nothing."""
    first = SCORED & (np.arange(BATCH) == 0)[:, None]
    head = in_tiles(1, scored=first)
    d_lookup = np.zeros((BATCH, LENGTH, WIDTH), np.float32)
    d_lookup[0, 0] = -dense()[1][0, TOKENS[0, 0]]
    _, absolute, square = add_lookup(
        head, *map(jnp.asarray, (TABLE, TOKENS, HIDDEN, first, d_lookup))
    )
    assert float(absolute.min()) >= 0
    assert float(square.min()) >= 0
    assert float(square[TOKENS[0, 0]].max()) <= 1e-6 * float(head.square[TOKENS[0, 0]].max())
