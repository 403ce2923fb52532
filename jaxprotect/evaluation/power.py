"""How many parallel sentences it takes to tell a damage, or a disparity, from none.

Planned from a pilot: any two evaluations of the same sentences, the original model and a variant
that is damaged about as much as what is looked for. The pilot gives only how much damages vary
from one sentence to another; its own damage need not be real.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from jaxprotect.errors import InputError
from jaxprotect.evaluation.bootstrap import LEVEL
from jaxprotect.evaluation.disparity import reference_languages
from jaxprotect.evaluation.evaluation import Evaluation, check_base, check_variant

MOST = 10**9
"""Sentences; more than this is called impossible."""


def power_curve(
    base: Evaluation,
    quantized: Evaluation,
    sentences: Sequence[int],
    *,
    damage: float | None = None,
    disparity: float | None = None,
    reference: Sequence[str] | None = None,
    level: float = LEVEL,
) -> dict[str, Float[np.ndarray, "N"]]:
    """Probability of telling a damage or a disparity from none, by number of sentences.

    A damage is told from none when its interval lies above 0 (`LanguageDamage.relative`); a
    disparity when the interval of the ratio, for all languages at once, lies above 1.

    Normal approximation with the paired variance of the pilot: with n sentences
    P = Phi(size sqrt(n) / s - t), where s is the standard deviation over sentences of
    u_l = (d_l - R_l n_l) / mean(n_l) (d: nats added, n: original nats, R = sum d / sum n), or, for
    a disparity, of u_l less its mean over the reference languages; t is Student's quantile of the
    interval's level, for a disparity of L languages that of level^(1 / L) (Sidak). Of a pilot of
    40 sentences s is known to about a sixth, and the sentences needed to about a third.

    Args:
        base: the original model's evaluation of the pilot sentences.
        quantized: a variant's.
        sentences: numbers of sentences to look at.
        damage: relative damage to tell from 0, such as 0.01; this or `disparity`.
        disparity: ratio to the reference languages' mean damage to tell from 1, such as 1.5, where
            that mean is what it is in the pilot.
        reference: languages whose mean is the yardstick; see `disparity`.
        level: coverage of the intervals.

    Returns:
        Language -> a probability per number of sentences; with `disparity`, languages that are
        not reference languages.

    Raises:
        InputError: evaluations of other sentences or of only one, not exactly one of `damage` and
            `disparity`, a size that is not one, or too few sentences.
    """
    sizes, share = _signals(base, quantized, damage, disparity, reference, level)
    few = [count for count in sentences if count < 2]
    if few:
        raise InputError(f"`sentences` has {few[0]}; an interval needs at least 2")
    return {name: _power(size, np.asarray(sentences), share) for name, size in sizes.items()}


def sentences_needed(
    base: Evaluation,
    quantized: Evaluation,
    *,
    damage: float | None = None,
    disparity: float | None = None,
    reference: Sequence[str] | None = None,
    power: float = 0.8,
    level: float = LEVEL,
) -> dict[str, int]:
    """The fewest parallel sentences that tell a damage or a disparity from none; `power_curve`.

    Args:
        base: the original model's evaluation of the pilot sentences.
        quantized: a variant's.
        damage: relative damage to tell from 0; this or `disparity`.
        disparity: ratio to tell from 1.
        reference: languages whose mean is the yardstick.
        power: wanted probability of telling it.
        level: coverage of the intervals.

    Returns:
        Language -> number of sentences, at least 2.

    Raises:
        InputError: as `power_curve`, or a power outside (0, 1).
    """
    if not 0 < power < 1:
        raise InputError(f"`power` is {power}; it must be between 0 and 1, both excluded")
    sizes, share = _signals(base, quantized, damage, disparity, reference, level)
    return {name: _fewest(size, share, power) for name, size in sizes.items()}


def _signals(
    base: Evaluation,
    quantized: Evaluation,
    damage: float | None,
    disparity: float | None,
    reference: Sequence[str] | None,
    level: float,
) -> tuple[dict[str, float], float]:
    """Language -> size over standard deviation; and the share that a bound leaves out."""
    check_base(base)
    check_variant(base, quantized, "quantized")
    if len(base.ids) < 2:
        raise InputError("`base` has 1 sentence; a pilot needs at least 2")
    if not 0 < level < 1:
        raise InputError(f"`level` is {level}; it must be between 0 and 1, both excluded")
    if (damage is None) == (disparity is None):
        raise InputError("give exactly one of `damage` and `disparity`")
    if damage is not None and not (math.isfinite(damage) and damage > 0):
        raise InputError(f"`damage` is {damage}; it must be a number above 0")
    if disparity is not None and not (math.isfinite(disparity) and disparity > 1):
        raise InputError(f"`disparity` is {disparity}; it must be a number above 1")
    languages = sorted(base.nats)
    nats = np.stack([base.nats[name] for name in languages], axis=1)
    added = np.stack([quantized.nats[name] for name in languages], axis=1) - nats
    relative_L = added.sum(axis=0) / nats.sum(axis=0)
    varied = (added - relative_L * nats) / nats.mean(axis=0)
    share = (1 - level) / 2
    if disparity is not None:
        chosen = [languages.index(name) for name in reference_languages(base, reference)]
        mean = float(relative_L[chosen].mean())
        if mean <= 0:
            raise InputError(
                f"`quantized` has a mean relative damage of {mean:.3g} in the reference languages; "
                "a disparity needs a pilot where it is above 0"
            )
        size = (disparity - 1) * mean
        varied = varied - varied[:, chosen].mean(axis=1, keepdims=True)
        share = 1 - (1 - share) ** (1 / len(languages))
        kept = [index for index in range(len(languages)) if index not in chosen]
    else:
        assert damage is not None
        size, kept = damage, list(range(len(languages)))
    deviations = varied.std(axis=0, ddof=1)
    return {
        languages[index]: float(size / deviations[index]) if deviations[index] > 0 else math.inf
        for index in kept
    }, share


def _power(signal: float, sentences: np.ndarray, share: float) -> np.ndarray:
    return ndtr(signal * np.sqrt(sentences) + stdtrit(sentences - 1, share))


def _fewest(signal: float, share: float, power: float) -> int:
    def enough(count: int) -> bool:
        return bool(_power(signal, np.array([count]), share)[0] >= power)

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST:
            raise InputError(f"`damage` or `disparity` needs more than {MOST} sentences")
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
