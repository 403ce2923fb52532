"""The original study's metrics: perplexity, its percentual rise, and three ratios of the rises.

They are exponential in the loss: a ratio of 200 in them may be one of 2 in nats. They are here so
that the study can be compared with, and for nothing else; `disparity` is the sound measure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluation import Evaluation, check_variant

STUDY_CODES = {
    "eng_Latn": "en",
    "deu_Latn": "de",
    "fra_Latn": "fr",
    "zho_Hans": "zh",
    "cmn_Hans": "zh",
    "heb_Hebr": "he",
    "arb_Arab": "ar",
    "spa_Latn": "es",
    "rus_Cyrl": "ru",
    "pol_Latn": "pl",
    "jpn_Jpan": "ja",
    "kor_Hang": "ko",
}
"""Language -> the study's code for it."""

LOW_RESOURCE = ("zh", "he", "ar")
HIGH_RESOURCE = ("en", "de", "fr")


@dataclass(frozen=True, kw_only=True)
class SeedRatios:
    """The study's three disparities; None where undefined, and `reasons` says why.

    Args:
        r1: deg(he) / deg(en).
        r2: mean of deg over zh, he and ar / mean over en, de and fr.
        r3: mean over the languages other than English of deg(l) / deg(en).
        reasons: `r1`, `r2` or `r3` -> why it is undefined.
    """

    r1: float | None
    r2: float | None
    r3: float | None
    reasons: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class SeedMetrics:
    """One variant by the study's measures.

    Args:
        ln_ppl_original: language -> mean nats per token before.
        ln_ppl_quantized: after.
        degradation_pct: language -> rise of the perplexity in percent; may be infinite.
        ratios: the study's disparities.
    """

    ln_ppl_original: dict[str, float]
    ln_ppl_quantized: dict[str, float]
    degradation_pct: dict[str, float]
    ratios: SeedRatios

    def rows(self) -> list[dict[str, str | float | None]]:
        """One row of plain data per language; what overflows a float is None."""
        return [
            {
                "language": language,
                "ln_ppl_original": before,
                "ln_ppl_quantized": self.ln_ppl_quantized[language],
                "ppl_original": _finite(_exp(before)),
                "ppl_quantized": _finite(_exp(self.ln_ppl_quantized[language])),
                "degradation_pct": _finite(self.degradation_pct[language]),
            }
            for language, before in self.ln_ppl_original.items()
        ]

    def summary(self) -> dict[str, str | float | None]:
        """One flat row of plain data: the ratios, and why one is undefined."""
        names = ("r1", "r2", "r3")
        reasons = {f"seed_{n}_reason": self.ratios.reasons.get(n, "") for n in names}
        return {f"seed_{n}": getattr(self.ratios, n) for n in names} | reasons


def ln_perplexity(evaluation: Evaluation) -> dict[str, float]:
    """ln PPL of each language: mean over its sentences of nats per scored token.

    Every sentence is a text of its own and weighs the same. The study had one per language, for
    which this is the mean loss per token (where it had three, it averaged their degradations).

    Args:
        evaluation: of the study's texts, scored without a start token.

    Returns:
        Language -> ln PPL.

    Raises:
        InputError: no sentences, or a sentence without scored tokens.
    """
    if not evaluation.ids:
        raise InputError("`evaluation` has no sentences")
    means = {}
    for language, nats in evaluation.nats.items():
        tokens = evaluation.tokens[language]
        if (tokens < 1).any():
            line = evaluation.ids[int(np.argmin(tokens))]
            raise InputError(
                f"`evaluation` has no scored tokens in {language} at sentence {line}; a "
                "perplexity needs at least one in each"
            )
        means[language] = math.fsum(nats / tokens) / len(nats)
    return means


def degradation(ln_ppl_original: float, ln_ppl_quantized: float) -> float:
    """(PPL quantized - PPL original) / PPL original * 100; infinite where it overflows."""
    rise = ln_ppl_quantized - ln_ppl_original
    return math.inf if rise > 700 else 100 * math.expm1(rise)


def seed_ratios(degradation_pct: Mapping[str, float]) -> SeedRatios:
    """The study's disparities from degradations.

    Args:
        degradation_pct: language -> degradation; languages as in `STUDY_CODES`, or any other
            (those count in r3 alone).

    Returns:
        The ratios, None with a reason where a language is missing, the denominator is not above
        0, or a degradation is infinite.
    """
    by_code = {STUDY_CODES.get(name, name): value for name, value in degradation_pct.items()}
    others = tuple(code for code in by_code if code != "en")
    sides = {
        "r1": (("he",), ("en",)),
        "r2": (LOW_RESOURCE, HIGH_RESOURCE),
        "r3": (others, ("en",)),
    }
    values, reasons = {}, {}
    for name, (above, below) in sides.items():
        values[name], reason = _mean_ratio(by_code, above, below)
        if reason:
            reasons[name] = reason
    return SeedRatios(**values, reasons=reasons)


def seed_metrics(base: Evaluation, quantized: Evaluation) -> SeedMetrics:
    """A variant by the original study's measures.

    Args:
        base: the original model's evaluation.
        quantized: the variant's, on the same texts.

    Returns:
        ln PPL, degradations and ratios.

    Raises:
        InputError: other texts than `base`, nats that are not finite, or a text without tokens.
    """
    check_variant(base, quantized, "quantized")
    check_variant(quantized, base, "base")
    before, after = ln_perplexity(base), ln_perplexity(quantized)
    rises = {language: degradation(before[language], after[language]) for language in before}
    return SeedMetrics(
        ln_ppl_original=before,
        ln_ppl_quantized=after,
        degradation_pct=rises,
        ratios=seed_ratios(rises),
    )


def _mean_ratio(
    values: Mapping[str, float], above: tuple[str, ...], below: tuple[str, ...]
) -> tuple[float | None, str]:
    missing = [code for code in (*above, *below) if code not in values]
    if missing or not above:
        return None, f"not evaluated: {', '.join(missing) or 'a language other than en'}"
    infinite = [code for code in (*above, *below) if not math.isfinite(values[code])]
    if infinite:
        return None, f"the perplexity is too large for a float in {', '.join(infinite)}"
    denominator = math.fsum(values[code] for code in below) / len(below)
    if denominator <= 0:
        return None, f"the degradation of {', '.join(below)} is {denominator:.3g} %, not above 0"
    return math.fsum(values[code] for code in above) / len(above) / denominator, ""


def _exp(value: float) -> float:
    return math.inf if value > 700 else math.exp(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
