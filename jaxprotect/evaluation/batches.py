"""Rows of tokens in batches of a few shapes, ready for jit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows of one length; a row is one window of one sentence.

    Args:
        tokens: [B, T] token ids, padded on the right with 0; the model's input is the first
            T - 1 columns. In a masked copy column 0 has the token that is masked, the rest is the
            model's input, and padding is `PADDING`.
        scored: [B, T] True where the token's own probability counts; never in column 0.
        language: [B] index into `Encoded.languages`; -1 for an empty row.
        sentence: [B] index into `Encoded.ids`; -1 for an empty row.
    """

    tokens: Int[np.ndarray, "B T"]
    scored: Bool[np.ndarray, "B T"]
    language: Int[np.ndarray, "B"]
    sentence: Int[np.ndarray, "B"]


@dataclass(frozen=True, slots=True)
class Row:
    """One window of a sentence, or one masked copy of it.

    Args:
        language: index of its language.
        sentence: index of the sentence.
        tokens: a row of `Batch.tokens`, without padding.
        scored: first column that counts, and the one after the last.
    """

    language: int
    sentence: int
    tokens: list[int]
    scored: tuple[int, int]

    @property
    def input_length(self) -> int:
        """Tokens that the model reads."""
        return len(self.tokens) - 1


def bucket_length(length: int, context: int) -> int:
    """Smallest of 16, 32, .. 128, 192, 256, 384, 512, 768, .. that holds `length` inputs.

    Args:
        length: inputs of a row.
        context: longest input of the model; the longest length there is.

    Returns:
        The length of its batch.
    """
    size = -(-length // 16) * 16
    if size > 128:
        power = 1 << (length - 1).bit_length()
        size = power * 3 // 4 if length <= power * 3 // 4 else power
    return min(size, context)


def most_rows(inputs: int, batch_tokens: int) -> int:
    """Rows of a batch of at most so many tokens.

    Args:
        inputs: of a row, which has one token more.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.

    Returns:
        How many there can be.
    """
    return max(1, batch_tokens // (inputs + 1))


def equal_rows(rows: int, most: int) -> int:
    """Rows of each of as few batches as hold them all: the last has few empty rows.

    Args:
        rows: in all.
        most: of one batch.

    Returns:
        The rows of one batch.

    >>> equal_rows(64, 63), equal_rows(10, 63)
    (32, 10)
    """
    return -(-rows // -(-rows // most))


def batches_of(
    rows: list[Row], *, context: int, batch_tokens: int, max_batch: int | None, padding: int
) -> tuple[Batch, ...]:
    """Rows of similar length together.

    Args:
        rows: what to batch.
        context: longest input of the model.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.
        max_batch: most rows of a batch; no limit if None.
        padding: the id after the end of a row.

    Returns:
        Batches by growing length; those of one length have one shape.
    """
    buckets: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.input_length):
        buckets.setdefault(bucket_length(row.input_length, context), []).append(row)
    batches, small = [], []
    lengths = list(buckets)
    for inputs, longer in zip(lengths, [*lengths[1:], None], strict=True):
        members = small + buckets[inputs]
        most = most_rows(inputs, batch_tokens)
        most = most if max_batch is None else min(most, max_batch)
        # Few rows join a somewhat longer length: padding them costs less than compiling it.
        if longer is not None and longer <= 2 * inputs and 4 * len(members) < most:
            small = members
            continue
        small = []
        size = equal_rows(len(members), most)  # so that all share one shape
        for begin in range(0, len(members), size):
            batches.append(_batch(members[begin : begin + size], size, inputs + 1, padding))
    return tuple(batches)


def _batch(rows: list[Row], size: int, length: int, padding: int) -> Batch:
    tokens = np.full((size, length), padding, np.int32)
    scored = np.zeros((size, length), bool)
    language = np.full(size, -1, np.int32)
    sentence = np.full(size, -1, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = row.tokens
        scored[i, slice(*row.scored)] = True
        language[i], sentence[i] = row.language, row.sentence
    return Batch(tokens=tokens, scored=scored, language=language, sentence=sentence)
