"""Rows of one language in batches of few shapes, the same shapes for every language.

Every shape is a program to compile, every padded token is work for nothing. Loose batches have one
shape per length; tight ones have more lengths, and a last batch of half the rows, a quarter, ...
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxprotect.evaluation.batches import bucket_length
from jaxprotect.evaluation.encoding import Encoded

LENGTHS = (32, 64, 96, 128, 192)
"""Input lengths of loose batches; beyond them powers of two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One window of one sentence.

    Args:
        tokens: [T + 1] token ids, without padding.
        scored: [T + 1] whether a token's own probability counts.
        language: whose sentence it is.
        sentence: its line number in the texts.
        window: which window of the sentence, from 0.
    """

    tokens: Int[np.ndarray, "T"]
    scored: Bool[np.ndarray, "T"]
    language: str
    sentence: int
    window: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RowBatch:
    """Rows padded to one shape, and to one number.

    Args:
        tokens: [B, T + 1] token ids.
        scored: [B, T + 1] whether a token's own probability counts; False in empty rows.
        uniform: [B, T] draws in [0, 1), functions of seed, language, sentence and window.
        rows: how many rows are real.
    """

    tokens: Int[np.ndarray, "B T"]
    scored: Bool[np.ndarray, "B T"]
    uniform: Float[np.ndarray, "B _"]
    rows: int


def language_rows(encoded: Encoded, language: str | None) -> list[Row]:
    """The rows of one language, or of all, each without its padding."""
    index = None if language is None else encoded.languages.index(language)
    windows: dict[tuple[int, int], int] = {}
    rows = []
    for batch in encoded.batches:
        for i in np.flatnonzero(batch.language >= 0):
            if index is not None and batch.language[i] != index:
                continue
            used = int(np.flatnonzero(batch.scored[i])[-1]) + 1
            where = (int(batch.language[i]), int(batch.sentence[i]))
            windows[where] = windows.get(where, -1) + 1
            row = Row(
                tokens=batch.tokens[i, :used],
                scored=batch.scored[i, :used],
                language=encoded.languages[where[0]],
                sentence=encoded.ids[where[1]],
                window=windows[where],
            )
            rows.append(row)
    return rows


def row_batches(
    rows: list[Row], *, context: int, batch_tokens: int, seed: int, tight: bool = False
) -> Iterator[RowBatch]:
    """Rows of similar length together.

    Args:
        rows: what to batch.
        context: longest input of the model.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.
        seed: of the draws.
        tight: more shapes and less padding.

    Yields:
        Batches by growing length.
    """
    batches = _tight if tight else _loose
    for members, size, length in batches(rows, context, batch_tokens):
        yield _batch(members, size, length, seed)


def _loose(
    rows: list[Row], context: int, batch_tokens: int
) -> Iterator[tuple[list[Row], int, int]]:
    buckets: dict[int, list[Row]] = {}
    for row in rows:
        buckets.setdefault(loose_length(len(row.tokens) - 1, context), []).append(row)
    for length in sorted(buckets):
        size = full_rows(length, batch_tokens)
        members = buckets[length]
        for start in range(0, len(members), size):
            yield members[start : start + size], size, length


def _tight(
    rows: list[Row], context: int, batch_tokens: int
) -> Iterator[tuple[list[Row], int, int]]:
    buckets: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: len(row.tokens)):
        buckets.setdefault(bucket_length(len(row.tokens) - 1, context), []).append(row)
    members: list[Row] = []
    for length, longer in zip(buckets, [*list(buckets)[1:], None], strict=True):
        size = full_rows(length, batch_tokens)
        members = members + buckets[length]
        while len(members) >= size:
            yield members[:size], size, length
            members = members[size:]
        # A batch costs time of its own: few rows are better padded to somewhat more.
        if members and (longer is None or longer > 2 * length or 4 * len(members) > size):
            yield members, halved(size, len(members)), length
            members = []


def halved(size: int, rows: int) -> int:
    """The smallest of size, its half, its quarter, ... that holds the rows."""
    while (half := -(-size // 2)) >= rows and half < size:
        size = half
    return size


def full_rows(length: int, batch_tokens: int) -> int:
    """Rows of a full batch: as many as have `batch_tokens` inputs, and at least one."""
    return max(1, batch_tokens // length)


def loose_length(inputs: int, context: int) -> int:
    """The length of the loose batch that a row of so many inputs is in."""
    longer = [length for length in LENGTHS if length >= inputs]
    return min(longer[0] if longer else 1 << (inputs - 1).bit_length(), max(context, inputs))


def _batch(rows: list[Row], size: int, length: int, seed: int) -> RowBatch:
    tokens = np.zeros((size, length + 1), np.int32)
    scored = np.zeros((size, length + 1), bool)
    uniform = np.zeros((size, length), np.float32)
    for i, row in enumerate(rows):
        used = len(row.tokens)
        tokens[i, :used], scored[i, :used] = row.tokens, row.scored
        name = zlib.crc32(row.language.encode())
        generator = np.random.default_rng((seed, name, row.sentence, row.window))
        uniform[i, : used - 1] = generator.random(used - 1, np.float32)
    return RowBatch(tokens=tokens, scored=scored, uniform=uniform, rows=len(rows))
