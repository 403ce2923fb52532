"""Sentences -> tokens in batches, for a causal model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Float, Int

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.evaluation.batches import Batch, Row, batches_of
from jaxprotect.evaluation.texts import Texts
from jaxprotect.evaluation.windows import prefixed_windows, rolling_windows

Start = Literal["prefix", "shift"]
"""A sentence's first token is predicted from a start token, or is not scored."""
STARTS: tuple[Start, ...] = get_args(Start)


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """Tokenised texts, and what each sentence amounts to.

    Args:
        batches: batches by growing length; those of one length have one shape.
        languages: the languages, in the texts' order.
        ids: line number of each sentence.
        tokens: language -> scored tokens of each sentence.
        bytes: language -> UTF-8 bytes of each sentence.
        characters: language -> Unicode code points of each sentence.
        prefix_tokens: longest cached prefix that every row has room for in the place of its
            column 0.
        masked: rows are copies of a sentence with one token masked, for masked models.
    """

    batches: tuple[Batch, ...]
    languages: tuple[str, ...]
    ids: tuple[int, ...]
    tokens: dict[str, Int[np.ndarray, "S"]]
    bytes: dict[str, Int[np.ndarray, "S"]]
    characters: dict[str, Int[np.ndarray, "S"]]
    prefix_tokens: int = 0
    masked: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Distinct (B, T): how often a jitted function of a batch compiles."""
        return tuple(sorted({(b.tokens.shape[0], b.tokens.shape[1]) for b in self.batches}))

    @property
    def padding(self) -> float:
        """Share of the model's input positions that no scored token needs."""
        inputs = sum(batch.tokens[:, 1:].size for batch in self.batches)
        needed = 0
        for batch in self.batches:
            if self.masked:  # a token that stands after the masked one is needed too
                needed += int(np.sum(batch.tokens[:, 1:] >= 0))
                continue
            # A row is needed up to its last scored token; argmax finds that in the mirrored row.
            last = batch.tokens.shape[1] - 1 - np.argmax(batch.scored[:, ::-1], axis=1)
            needed += int(np.sum(np.where(batch.language >= 0, last, 0)))
        return 1.0 - needed / inputs

    def by_sentence(
        self, values: Sequence[Float[Array | np.ndarray, "_"]]
    ) -> dict[str, np.ndarray]:
        """Sum the values of rows into their sentences, in float64.

        Args:
            values: for each batch its [B] values, such as nats.

        Returns:
            Language -> [S] float64.

        Raises:
            InputError: not one array per batch.
        """
        if len(values) != len(self.batches):
            raise InputError(f"`values` has {len(values)} batches; there are {len(self.batches)}")
        sums = np.zeros((len(self.languages), len(self.ids)))
        for batch, of_rows in zip(self.batches, values, strict=True):
            real = batch.language >= 0
            where = (batch.language[real], batch.sentence[real])
            np.add.at(sums, where, np.asarray(of_rows, np.float64)[real])
        return dict(zip(self.languages, sums, strict=True))


def encode_texts(
    texts: Texts,
    tokenizer: Any,
    *,
    context: int,
    start: str = "prefix",
    batch_tokens: int = 4096,
    max_batch: int | None = None,
    vocab_size: int | None = None,
    prefix_tokens: int = 0,
) -> Encoded:
    """Tokenise texts into batches of a few shapes.

    `start="prefix"` puts the model's start token (the tokenizer's BOS, else its EOS) before
    every sentence and scores all of its tokens. `start="shift"`, the seed protocol, takes the
    tokens as the tokenizer gives them, special tokens included, and scores all but the first.
    Sentences longer than the context are cut by `rolling_windows`.

    Args:
        texts: the sentences.
        tokenizer: a `transformers` tokenizer.
        context: longest input of the model, in tokens.
        start: `prefix` or `shift`.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.
        max_batch: most rows of a batch; no limit by default.
        vocab_size: rows of the model's embedding, to refuse ids beyond it.
        prefix_tokens: P, tokens of a cached prefix that takes the place of the start token
            (`start` prefix only): windows leave it its P positions and all begin with its slot.

    Returns:
        Batches, and the counts of every sentence.

    Raises:
        InputError: an option out of range, a tokenizer without a start token, a sentence
            without a scored token, or a token id that the model does not have.
    """
    for name, value in {"context": context, "batch_tokens": batch_tokens}.items():
        if value < 1:
            raise InputError(f"`{name}` is {value}; it must be at least 1")
    if max_batch is not None and max_batch < 1:
        raise InputError(f"`max_batch` is {max_batch}; it must be at least 1")
    if start not in STARTS:
        raise unknown_name("start", start, STARTS)
    _check_prefix_tokens(prefix_tokens, context, start)
    prefix = _start_token(tokenizer) if start == "prefix" else None
    # The slot is one input, however many positions the prefix takes.
    longest = context - prefix_tokens + 1 if prefix_tokens else context

    rows: list[Row] = []
    counts: dict[str, np.ndarray] = {}
    for language_index, language in enumerate(texts.languages):
        tokenised = _tokenise(texts.sentences[language], tokenizer, special=prefix is None)
        counts[language] = np.zeros(len(texts.ids), np.int64)
        for index, tokens in enumerate(tokenised):
            where = f"{language} line {texts.ids[index]} of {texts.source}"
            first, targets = (tokens[:1], tokens[1:]) if prefix is None else ([prefix], tokens)
            if not targets:
                raise InputError(
                    f"{where} has {len(tokens)} tokens, none of which is scored "
                    f"with `start` {start!r}"
                )
            check_ids([*first, *targets], vocab_size, where)
            counts[language][index] = len(targets)
            if prefix_tokens:
                windows = prefixed_windows(targets, first[0], context - prefix_tokens)
            else:
                windows = rolling_windows(targets, first[0], context)
            for before, after in windows:
                tokens = before + after
                rows.append(Row(language_index, index, tokens, (len(before), len(tokens))))
    batches = batches_of(
        rows, context=longest, batch_tokens=batch_tokens, max_batch=max_batch, padding=0
    )
    return encoded_of(texts, batches, counts, prefix_tokens=prefix_tokens)


def encoded_of(
    texts: Texts, batches: tuple[Batch, ...], counts: dict[str, np.ndarray], **more: Any
) -> Encoded:
    """The batches of texts, with the sizes of the sentences.

    Args:
        texts: the sentences.
        batches: their rows.
        counts: language -> scored tokens of each sentence.
        more: further fields of `Encoded`.

    Returns:
        All together.
    """
    return Encoded(
        batches=batches,
        languages=texts.languages,
        ids=texts.ids,
        tokens=counts,
        bytes={
            language: np.array([len(sentence.encode()) for sentence in sentences])
            for language, sentences in texts.sentences.items()
        },
        characters={
            language: np.array([len(sentence) for sentence in sentences])
            for language, sentences in texts.sentences.items()
        },
        **more,
    )


def check_ids(tokens: Sequence[int], vocab_size: int | None, where: str) -> None:
    """Refuse ids that the model does not have.

    Args:
        tokens: at least one id.
        vocab_size: rows of the model's embedding; None if not known.
        where: where they stand, for the message.

    Raises:
        InputError: an id beyond the embedding.
    """
    largest = max(tokens)
    if vocab_size is not None and largest >= vocab_size:
        raise InputError(
            f"{where} has the token id {largest}; the model's ids end at {vocab_size - 1}"
        )


def _check_prefix_tokens(prefix_tokens: int, context: int, start: str) -> None:
    if prefix_tokens and not 1 <= prefix_tokens < context:
        raise InputError(
            f"`prefix_tokens` is {prefix_tokens}; allowed are 0 to {context - 1}, which leaves "
            f"text a position in the context of {context}"
        )
    if prefix_tokens and start != "prefix":
        raise InputError(
            f"`start` is {start!r} with {prefix_tokens} prefix tokens; a cached prefix takes the "
            "place of the start token, so 'prefix' is needed"
        )


def _start_token(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError(
        "`tokenizer` has neither a BOS nor an EOS token to start sentences with; "
        "`start` 'shift' needs none"
    )


def _tokenise(sentences: Sequence[str], tokenizer: Any, *, special: bool) -> list[list[int]]:
    # The tokenizer need not warn of long sentences: windows cut them.
    return tokenizer(
        list(sentences),
        add_special_tokens=special,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]
