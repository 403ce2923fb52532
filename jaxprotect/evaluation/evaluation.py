"""What an evaluation leaves: sums per sentence and language; and which two can be compared."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxprotect.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Sums per sentence; divided once, by whoever reports them.

    Args:
        nats: language -> [S] -ln p summed over each sentence's scored tokens.
        tokens: language -> [S] scored tokens.
        bytes: language -> [S] UTF-8 bytes.
        characters: language -> [S] characters.
        ids: number of each sentence in its source; the same sentences in every language.
        vocab_size: V; ln V nats per token is what guessing uniformly costs.
    """

    nats: dict[str, Float[np.ndarray, "S"]]
    tokens: dict[str, Int[np.ndarray, "S"]]
    bytes: dict[str, Int[np.ndarray, "S"]]
    characters: dict[str, Int[np.ndarray, "S"]]
    ids: tuple[int, ...]
    vocab_size: int


def check_base(base: Evaluation) -> None:
    """Refuse an evaluation that damages cannot be relative to.

    Args:
        base: the original model's.

    Raises:
        InputError: nothing evaluated, repeated ids, nats that are not finite and above 0 in
            every sentence, or no tokens, bytes or characters.
    """
    if not base.nats or not base.ids:
        raise InputError("`base` is empty; at least one language and one sentence are needed")
    if len(set(base.ids)) < len(base.ids):
        raise InputError("`base` has the same sentence id more than once")
    for language, nats in base.nats.items():
        _check_nats(base, language, "base")
        if not (nats > 0).all():
            line = base.ids[int(np.argmin(nats))]
            raise InputError(
                f"`base` has {nats.min()} nats in {language} at sentence {line}; relative damage "
                "needs more than 0 (a sentence without scored tokens has none)"
            )
        for what in ("tokens", "bytes", "characters"):
            if getattr(base, what)[language].sum() < 1:
                raise InputError(f"`base` has no {what} in {language}")


def check_variant(base: Evaluation, variant: Evaluation, name: str) -> None:
    """Refuse an evaluation that is not of the same sentences in the same languages.

    Args:
        base: the original model's.
        variant: a quantized model's.
        name: what to call it in the error.

    Raises:
        InputError: other languages, ids, vocabulary or scored tokens, or nats not finite.
    """
    if set(variant.nats) != set(base.nats):
        odd = ", ".join(sorted(set(variant.nats) ^ set(base.nats)))
        raise InputError(f"`{name}` and `base` differ in languages: only one of them has {odd}")
    if variant.ids != base.ids:
        raise InputError(
            f"`{name}` has {len(variant.ids)} sentences and `base` {len(base.ids)}, or in another "
            "order; both must be evaluated on the same sentences"
        )
    if variant.vocab_size != base.vocab_size:
        raise InputError(
            f"`{name}` has a vocabulary of {variant.vocab_size}, `base` of {base.vocab_size}"
        )
    for language in base.nats:
        _check_nats(variant, language, name)
        if not np.array_equal(variant.tokens[language], base.tokens[language]):
            raise InputError(
                f"`{name}` and `base` differ in scored tokens in {language}; both must be "
                "evaluated with the same tokenizer and start token"
            )


def _check_nats(evaluation: Evaluation, language: str, name: str) -> None:
    nats = evaluation.nats[language]
    if nats.shape != (len(evaluation.ids),):
        raise InputError(
            f"`{name}` has nats of shape {nats.shape} in {language}; it has "
            f"{len(evaluation.ids)} sentence ids"
        )
    if not np.isfinite(nats).all():
        bad = int(np.flatnonzero(~np.isfinite(nats))[0])
        raise InputError(
            f"`{name}` has {nats[bad]} nats in {language} at sentence {evaluation.ids[bad]}; "
            "nats must be finite"
        )
