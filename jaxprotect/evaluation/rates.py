"""How well one model predicts each language: pooled rates with bootstrap intervals."""

import math

import numpy as np

from jaxprotect.evaluation.bootstrap import DRAWS, Estimate, percentile_interval, resampled_sums
from jaxprotect.evaluation.damage import Row
from jaxprotect.evaluation.evaluation import Evaluation


def language_rates(evaluation: Evaluation, *, draws: int = DRAWS, seed: int = 0) -> list[Row]:
    """Nats per sentence and bits per byte of every language, with 95 % intervals.

    Rates are pooled, sum over sum: bits per byte = sum nats / sum bytes / ln 2, as in
    lm-evaluation-harness.

    Args:
        evaluation: nats and sizes of the sentences.
        draws: bootstrap draws over sentences.
        seed: of the draws.

    Returns:
        One row of plain data per language: `nats` (per sentence) and `bits_per_byte`, each with
        `_low` and `_high` (None for a single sentence), `bits_per_character`, `tokens_per_byte`.
    """
    count = len(evaluation.ids)

    def row(language: str) -> Row:
        nats, size = evaluation.nats[language], evaluation.bytes[language]
        rates = np.array([nats.sum() / count, nats.sum() / size.sum() / math.log(2)])
        low, high = None, None
        if count > 1:
            sums = resampled_sums(np.stack([nats, size.astype(float)], 1), draws=draws, seed=seed)
            of_draws = sums[:, :1] / np.stack([np.full(draws, count), sums[:, 1] * math.log(2)], 1)
            low, high = percentile_interval(of_draws, sentences=count)
        estimates = [
            Estimate(
                value=float(value),
                low=None if low is None else float(low[index]),
                high=None if high is None else float(high[index]),
            )
            for index, value in enumerate(rates)
        ]
        return {
            "language": language,
            "sentences": count,
            **estimates[0].to_row("nats"),
            **estimates[1].to_row("bits_per_byte"),
            "bits_per_character": float(
                nats.sum() / evaluation.characters[language].sum() / math.log(2)
            ),
            "tokens_per_byte": float(evaluation.tokens[language].sum() / size.sum()),
        }

    return [row(language) for language in evaluation.nats]
