"""Sentences -> copies with one token masked each: how a masked model scores a text.

Of a sentence of n tokens there are n copies, so that its pseudo-log-likelihood costs n forward
passes. Copies are rows like any others, in batches of a few shapes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.evaluation.batches import Row, batches_of
from jaxprotect.evaluation.encoding import Encoded, check_ids, encoded_of
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.transformer import PADDING

Masking = Literal["token", "word"]
"""What a copy hides: the scored token, or also those after it in the same word."""
MASKINGS: tuple[Masking, ...] = get_args(Masking)

Words = Sequence[int | None]
"""Which word of its sentence each token belongs to."""


def masked_copies(
    tokens: Sequence[int],
    *,
    mask: int,
    first: int,
    last: int,
    context: int,
    words: Words | None = None,
) -> Iterator[tuple[list[int], int]]:
    """One copy for each token of a sentence, with that token masked.

    A sentence that is too long is cut around each token, so that it stands in the middle of what
    the model reads.

    Args:
        tokens: the sentence, without special tokens.
        mask: id of the mask.
        first: id that stands before every text (`[CLS]`, `<s>`).
        last: id that stands after it (`[SEP]`, `</s>`).
        context: longest input of the model, in tokens; at least 3.
        words: which word each token belongs to, to mask the rest of the word too; None belongs to
            none.

    Yields:
        (the masked token and then the model's input, the column of the mask).

    >>> list(masked_copies([7, 8], mask=4, first=0, last=1, context=9))
    [([7, 0, 4, 8, 1], 2), ([8, 0, 7, 4, 1], 3)]
    """
    room = context - 2
    for index, token in enumerate(tokens):
        begin = max(0, min(index - room // 2, len(tokens) - room))
        row = [token, first, *tokens[begin : begin + room], last]
        column = 2 + index - begin
        row[column] = mask
        if words is not None and words[index] is not None:
            for after in range(index + 1, min(begin + room, len(tokens))):
                if words[after] != words[index]:
                    break
                row[2 + after - begin] = mask
        yield row, column


def encode_masked(
    texts: Texts,
    tokenizer: Any,
    *,
    context: int,
    masking: str = "token",
    batch_tokens: int = 4096,
    max_batch: int | None = None,
    vocab_size: int | None = None,
) -> Encoded:
    """Tokenise texts into masked copies, in batches of a few shapes.

    The tokenizer's start and end tokens stand around every sentence and are never scored.

    Args:
        texts: the sentences.
        tokenizer: a `transformers` tokenizer with start, end and mask tokens.
        context: longest input of the model, in tokens.
        masking: `token` masks the scored token alone (Salazar et al.); `word` also those after it
            in the same word, as the tokenizer splits words, so that a word in many pieces is not
            guessed from its own end (Kauf and Ivanova). Where a tokenizer splits at spaces only,
            a text without spaces is one word.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.
        max_batch: most rows of a batch; no limit by default.
        vocab_size: rows of the model's embedding, to refuse ids beyond it.

    Returns:
        Batches, and the counts of every sentence.

    Raises:
        InputError: an option out of range, a tokenizer that lacks one of the three tokens (or
            words), a sentence without tokens, or a token id that the model does not have.

    Source: Salazar et al. 2020, arXiv:1910.14659; Kauf and Ivanova 2023, arXiv:2305.10588.
    """
    least = {"context": (context, 3), "batch_tokens": (batch_tokens, 1)}
    least |= {} if max_batch is None else {"max_batch": (max_batch, 1)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise InputError(f"`{name}` is {value}; it must be at least {smallest}")
    if masking not in MASKINGS:
        raise InputError(f"`masking` is {masking!r}; allowed are {', '.join(MASKINGS)}")
    if masking == "word" and not getattr(tokenizer, "is_fast", False):
        raise InputError("`masking` is 'word'; `tokenizer` does not say where words end")
    special = {name: _special(tokenizer, name) for name in ("mask", "cls", "sep")}
    check_ids(list(special.values()), vocab_size, "`tokenizer`")

    rows: list[Row] = []
    counts: dict[str, np.ndarray] = {}
    for language_index, language in enumerate(texts.languages):
        counts[language] = np.zeros(len(texts.ids), np.int64)
        found = tokenizer(
            list(texts.sentences[language]),
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )
        for index, tokens in enumerate(found["input_ids"]):
            where = f"{language} line {texts.ids[index]} of {texts.source}"
            if not tokens:
                raise InputError(f"{where} has no tokens, so that none is scored")
            check_ids(tokens, vocab_size, where)
            counts[language][index] = len(tokens)
            copies = masked_copies(
                tokens,
                mask=special["mask"],
                first=special["cls"],
                last=special["sep"],
                context=context,
                words=found.word_ids(index) if masking == "word" else None,
            )
            for row, column in copies:
                rows.append(Row(language_index, index, row, (column, column + 1)))
    batches = batches_of(
        rows, context=context, batch_tokens=batch_tokens, max_batch=max_batch, padding=PADDING
    )
    return encoded_of(texts, batches, counts, masked=True)


def _special(tokenizer: Any, name: str) -> int:
    token = getattr(tokenizer, f"{name}_token_id", None)
    if token is None:
        raise InputError(f"`tokenizer` has no {name} token; a masked model's has mask, cls and sep")
    return int(token)
