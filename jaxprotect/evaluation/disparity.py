"""What quantization costs each language, and how unequally: damages with paired intervals.

D_l = nats(quantized) - nats(original), summed over the sentences of language l; its relative
damage is D_l / nats(original). A disparity is the worst relative damage over the mean one of the
reference languages, and always stands next to the worst absolute damage.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxprotect.errors import InputError, did_you_mean
from jaxprotect.evaluation.bootstrap import (
    DRAWS,
    LEVEL,
    Estimate,
    percentile_interval,
    resampled_sums,
    simultaneous_interval,
    simultaneous_upper,
)
from jaxprotect.evaluation.damage import Comparison, Disparity, language_damage
from jaxprotect.evaluation.evaluation import Evaluation, check_base, check_variant

REFERENCE_LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn")
"""Whose mean damage is the yardstick unless others are named."""

ONE_SENTENCE = "one sentence has no interval"
SUMS_AT_ONCE = 2**24
"""Most resampled sums held at a time (128 MiB); more variants are taken in groups."""


def disparity(
    base: Evaluation,
    quantized: Evaluation,
    *,
    reference: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Disparity:
    """Damage of each language and the disparity of one variant, with bootstrap intervals.

    One sentence gives every number but no interval, and so no ratio.

    Args:
        base: the original model's evaluation.
        quantized: the variant's, on the same sentences.
        reference: languages whose mean is the yardstick; by default those of English, German
            and French that are there.
        draws: bootstrap draws over sentences.
        seed: of the draws; the same for all that is to be compared.
        level: coverage of the intervals.

    Returns:
        The damages and the disparity.

    Raises:
        InputError: different sentences, languages or texts, nats that are not finite, original
            nats that are not above 0, or a reference language that is not there.
    """
    return disparity_table(
        base,
        {"quantized": quantized},
        reference=reference,
        draws=draws,
        seed=seed,
        level=level,
    )["quantized"]


def disparity_table(
    base: Evaluation,
    variants: Mapping[str, Evaluation],
    *,
    reference: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Disparity]:
    """`disparity` of many variants on the same draws; each as if it were alone, to the bit."""
    check_base(base)
    for name, variant in variants.items():
        check_variant(base, variant, name)
    asked = reference_languages(base, reference)
    names = list(variants)
    group = max(1, SUMS_AT_ONCE // max(1, draws * len(base.nats)) - 1)
    table = {}
    for start in range(0, len(names), group):
        chosen = {name: variants[name] for name in names[start : start + group]}
        base_sums, damages = _resampled(base, list(chosen.values()), draws, seed)
        for index, (name, variant) in enumerate(chosen.items()):
            damage_sums = None if damages is None else damages[index]
            table[name] = _disparity(base, variant, asked, base_sums, damage_sums, level, draws)
    return table


def compare(
    base: Evaluation,
    first: Evaluation,
    second: Evaluation,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """What the second variant changes against the first, on the same draws.

    Args:
        base: the original model's evaluation.
        first: a variant's.
        second: another variant's.
        draws: bootstrap draws over sentences.
        seed: of the draws.
        level: coverage of the intervals.

    Returns:
        Differences, second minus first, with paired intervals (None with one sentence).

    Raises:
        InputError: as in `disparity`.
    """
    check_base(base)
    check_variant(base, first, "first")
    check_variant(base, second, "second")

    def statistics(base_sums: np.ndarray, sums: np.ndarray) -> np.ndarray:
        damage, relative = sums / len(base.ids), sums / base_sums
        worst = np.stack([damage.max(axis=-1), relative.max(axis=-1)], axis=-1)
        return np.concatenate([damage, relative, worst], axis=-1)

    totals = _totals(base)
    values = statistics(totals, _damages(base, second)) - statistics(totals, _damages(base, first))
    base_sums, damages = _resampled(base, [first, second], draws, seed)
    samples = None
    if damages is not None:
        samples = statistics(base_sums, damages[1]) - statistics(base_sums, damages[0])
    *of_languages, worst_damage, worst_relative = _estimates(values, samples, level, len(base.ids))
    languages, count = sorted(base.nats), len(base.nats)
    return Comparison(
        worst_relative=worst_relative,
        worst_damage=worst_damage,
        damage=dict(zip(languages, of_languages[:count], strict=True)),
        relative=dict(zip(languages, of_languages[count:], strict=True)),
    )


def _disparity(
    base: Evaluation,
    quantized: Evaluation,
    reference: tuple[str, ...],
    base_sums: np.ndarray,
    damage_sums: np.ndarray | None,
    level: float,
    draws: int,
) -> Disparity:
    languages, sentences = sorted(base.nats), len(base.ids)
    chosen = [languages.index(name) for name in reference]
    totals, added = _totals(base), _damages(base, quantized)
    damage_L, relative_L = added / sentences, added / totals
    mean = relative_L[chosen].mean()
    values = np.concatenate([damage_L, relative_L, [mean]])
    extremes = (damage_L.max(), relative_L.max(), relative_L.max() - relative_L.min())
    upper_L = None
    ratio = Estimate(value=None, reason=f"undefined: {ONE_SENTENCE}")
    if damage_sums is None:
        *of_languages, denominator = _estimates(values, None, level, sentences)
        worst_damage, worst, gap = (
            Estimate(value=float(value), reason=ONE_SENTENCE) for value in extremes
        )
    else:
        damage, relative = damage_sums / sentences, damage_sums / base_sums
        means = relative[:, chosen].mean(axis=1, keepdims=True)
        samples = np.concatenate([damage, relative, means], axis=1)
        *of_languages, denominator = _estimates(values, samples, level, sentences)
        upper_L = simultaneous_upper(relative_L, relative, level, sentences=sentences)
        damage_low, damage_high = simultaneous_interval(
            damage_L, damage, level, sentences=sentences
        )
        low, high = simultaneous_interval(relative_L, relative, level, sentences=sentences)
        worst_damage = _between(extremes[0], damage_low.max(), damage_high.max())
        worst = _between(extremes[1], low.max(), high.max())
        gap = _between(extremes[2], max(0.0, low.max() - high.min()), high.max() - low.min())
        ratio = _ratio(relative_L, relative, denominator, means, level, sentences)
    count = len(languages)
    records = {
        name: language_damage(
            base,
            quantized,
            name,
            of_languages[index],
            of_languages[count + index],
            None if upper_L is None else float(upper_L[index]),
        )
        for index, name in enumerate(languages)
    }
    return Disparity(
        languages=records,
        reference=reference,
        draws=draws,
        level=level,
        worst=languages[int(np.argmax(relative_L))],
        worst_relative=worst,
        worst_absolute=languages[int(np.argmax(damage_L))],
        worst_damage=worst_damage,
        gap=gap,
        reference_relative=denominator,
        ratio=ratio,
        abs_log_ratio=_abs_log(ratio),
        destroyed=tuple(name for name, record in records.items() if record.destroyed),
    )


def _ratio(
    relative_L: np.ndarray,
    relative: np.ndarray,
    denominator: Estimate,
    means: np.ndarray,
    level: float,
    sentences: int | None = None,
) -> Estimate:
    """Largest relative damage over the reference's mean, where that is clearly above 0."""
    assert denominator.value is not None
    assert denominator.low is not None
    assert denominator.high is not None
    if denominator.low <= 0 or denominator.value <= 0:
        where = "includes 0" if denominator.high >= 0 else "lies below 0"
        interval = f"[{denominator.low:.3g}, {denominator.high:.3g}]"
        reason = f"the interval {interval} of the reference languages' mean relative damage {where}"
        return Estimate(value=None, reason=f"undefined: {reason}")
    # Draws whose denominator is not above 0 lie beyond every ratio.
    ratios = np.full_like(relative, np.inf)
    np.divide(relative, means, out=ratios, where=means > 0)
    ratio_L = relative_L / denominator.value
    low, high = simultaneous_interval(ratio_L, ratios, level, sentences=sentences)
    if not np.isfinite(high).all():
        reason = "too many draws have a mean relative damage of the reference languages not above 0"
        return Estimate(value=None, reason=f"undefined: the ratio has no upper bound, {reason}")
    # The reference languages are among those of the maximum: it is never below their mean.
    return _between(ratio_L.max(), max(1.0, low.max()), high.max())


def _between(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=float(value), low=float(low), high=float(high))


def _totals(evaluation: Evaluation) -> np.ndarray:
    """[L] nats, languages sorted; correctly rounded, so that no order of sentences matters."""
    return np.array([math.fsum(evaluation.nats[name]) for name in sorted(evaluation.nats)])


def _damages(base: Evaluation, quantized: Evaluation) -> np.ndarray:
    """[L] nats added."""
    names = sorted(base.nats)
    return np.array([math.fsum([*quantized.nats[n], *(-base.nats[n])]) for n in names])


def _resampled(
    base: Evaluation, variants: list[Evaluation], draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Nats of the original [draws, L] and nats added [variants, draws, L]; None: one sentence."""
    if len(base.ids) == 1:
        return _totals(base), None
    order = np.argsort(base.ids)

    def by_sentence(evaluation: Evaluation) -> np.ndarray:
        return np.stack([evaluation.nats[name][order] for name in sorted(base.nats)], axis=1)

    before = by_sentence(base)
    stacked = np.stack([before, *(by_sentence(variant) - before for variant in variants)])
    sums = resampled_sums(stacked, draws=draws, seed=seed)
    return sums[0], sums[1:]


def _estimates(
    values: np.ndarray, samples: np.ndarray | None, level: float, sentences: int
) -> list[Estimate]:
    if samples is None:
        return [Estimate(value=float(value), reason=ONE_SENTENCE) for value in values]
    low, high = percentile_interval(samples, level, sentences=sentences)
    return [_between(*ends) for ends in zip(values, low, high, strict=True)]


def _abs_log(ratio: Estimate) -> Estimate:
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return Estimate(value=None, reason=ratio.reason)
    value, low, high = (abs(math.log(number)) for number in (ratio.value, ratio.low, ratio.high))
    return Estimate(value=value, low=low, high=high)


def reference_languages(base: Evaluation, reference: Sequence[str] | None) -> tuple[str, ...]:
    """The languages whose mean is the yardstick: those asked for, checked, or the default ones.

    Args:
        base: what was evaluated.
        reference: languages, or None for those of `REFERENCE_LANGUAGES` that are there.

    Returns:
        Languages of `base`, each once.

    Raises:
        InputError: none of the default ones is there, or one asked for is not.
    """
    there = ", ".join(sorted(base.nats))
    if reference is None:
        present = tuple(name for name in REFERENCE_LANGUAGES if name in base.nats)
        if not present:
            raise InputError(
                f"`reference` is needed: none of {', '.join(REFERENCE_LANGUAGES)} is among the "
                f"languages evaluated, which are {there}"
            )
        return present
    if isinstance(reference, str) or not reference:
        raise InputError(f"`reference` is {reference!r}; give a list of languages from {there}")
    unknown = [name for name in reference if name not in base.nats]
    if unknown:
        meant = did_you_mean(unknown[0], base.nats)
        raise InputError(f"`reference` names {', '.join(unknown)}; allowed are {there}{meant}")
    return tuple(dict.fromkeys(reference))
