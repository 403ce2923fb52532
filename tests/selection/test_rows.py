"""Batches of rows: every row once, few shapes, little padding when asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprotect.selection.rows import Row, RowBatch, row_batches

CONTEXT = 256


def rows_of(lengths: list[int]) -> list[Row]:
    """Rows whose first token says which they are."""
    return [
        Row(
            tokens=np.full(inputs + 1, 1000 + i, np.int32),
            scored=np.arange(inputs + 1) > 0,
            language="eng_Latn",
            sentence=i,
            window=0,
        )
        for i, inputs in enumerate(lengths)
    ]


def batches_of(lengths: list[int], *, tight: bool, batch_tokens: int = 1024) -> list[RowBatch]:
    options = {"context": CONTEXT, "batch_tokens": batch_tokens, "seed": 0}
    return list(row_batches(rows_of(lengths), **options, tight=tight))


def draws(batches: list[RowBatch]) -> dict[int, list[float]]:
    found = {}
    for batch in batches:
        for i in range(batch.rows):
            row = int(batch.tokens[i, 0]) - 1000
            used = int(batch.scored[i].sum())
            assert row not in found
            assert (batch.tokens[i, : used + 1] == 1000 + row).all()
            assert not batch.tokens[i, used + 1 :].any()
            found[row] = batch.uniform[i, :used].tolist()
    return found


@given(lengths=st.lists(st.integers(1, CONTEXT), min_size=1, max_size=60), tight=st.booleans())
def test_every_row_is_in_one_batch_whole(lengths, tight):
    batches = batches_of(lengths, tight=tight)
    assert {row: len(of) for row, of in draws(batches).items()} == dict(enumerate(lengths))
    for batch in batches:
        size, length = batch.tokens.shape
        assert size * (length - 1) <= 1024
        assert not batch.scored[batch.rows :].any()


@given(lengths=st.lists(st.integers(1, CONTEXT), min_size=1, max_size=60))
def test_draws_do_not_depend_on_the_batches(lengths):
    tight, loose = (draws(batches_of(lengths, tight=tight)) for tight in (True, False))
    assert tight == loose


def test_loose_batches_of_a_length_have_one_shape():
    shapes = [batch.tokens.shape for batch in batches_of([20] * 40 + [60] * 3, tight=False)]
    assert shapes == [(32, 33), (32, 33), (16, 65)]


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        ([20] * 40, [(32, 33), (8, 33)]),  # the last batch: a quarter of the rows
        ([40] * 21 + [48] * 2, [(21, 49), (2, 49)]),  # nothing longer to join
        ([20] * 40 + [100], [(32, 33), (8, 33), (1, 113)]),  # 112 is not somewhat longer
        ([20] * 33 + [40] * 11, [(32, 33), (21, 49)]),  # one row joins the next length
        ([20] * 2, [(2, 33)]),
    ],
)
def test_tight_batches_have_little_padding(lengths, shapes):
    assert [batch.tokens.shape for batch in batches_of(lengths, tight=True)] == shapes


def test_a_row_longer_than_a_batch_is_a_batch():
    for tight in (True, False):
        (batch,) = batches_of([200], tight=tight, batch_tokens=64)
        assert batch.rows == 1
        assert batch.tokens.shape[0] == 1
