"""A run's variants side by side: grouped by quantizer, and paired on the same bootstrap draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxprotect.evaluation.bootstrap import Estimate, percentile_interval, resampled_sums
from jaxprotect.evaluation.disparity import ONE_SENTENCE, SUMS_AT_ONCE
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.wording import language_names

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The largest relative damage of every variant, measured and in each draw.

    Args:
        values: variant -> its largest relative damage.
        draws: variant -> the same in each draw; None with one sentence.
        level: coverage of intervals.
    """

    values: dict[str, float]
    draws: dict[str, Float[np.ndarray, "draws"]] | None
    level: float

    def difference(self, first: str, second: str) -> Estimate:
        """First minus second, paired; positive = the second leaves less damage.

        The same, to the bit, as `-compare(base, first, second).worst_relative`.
        """
        value = self.values[first] - self.values[second]
        if self.draws is None:
            return Estimate(value=value, reason=ONE_SENTENCE)
        samples = self.draws[first] - self.draws[second]
        low, high = percentile_interval(samples[:, None], self.level)
        return Estimate(value=value, low=float(low[0]), high=float(high[0]))


def worst_of(run: Run, draws: int, level: float) -> Worst:
    """The largest relative damage of each variant on draws that all of them share.

    Args:
        run: a run.
        draws: bootstrap draws.
        level: coverage of intervals.

    Returns:
        Values and draws.
    """
    base = run.evaluation(ORIGINAL)
    order = np.argsort(base.ids)

    def nats(variant: str) -> np.ndarray:
        evaluation = run.evaluation(variant)
        return np.stack([evaluation.nats[name][order] for name in sorted(base.nats)], axis=1)

    before = nats(ORIGINAL)
    total_L = before.sum(axis=0)
    group = max(1, SUMS_AT_ONCE // (draws * len(base.nats)) - 1)
    values: dict[str, float] = {}
    samples: dict[str, np.ndarray] = {}
    for start in range(0, len(run.variants), group):
        names = run.variants[start : start + group]
        added = [nats(name) - before for name in names]
        for name, of_variant in zip(names, added, strict=True):
            values[name] = float((of_variant.sum(axis=0) / total_L).max())
        if len(base.ids) > 1:
            sums = resampled_sums(np.stack([before, *added]), draws=draws)
            largest = (sums[1:] / sums[0]).max(axis=-1)
            samples.update(zip(names, largest, strict=True))
    return Worst(values=values, draws=samples or None, level=level)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The variants of one quantizer.

    Args:
        quantizer: its label.
        plain: the variant that protects nothing, if the run has it.
        rows: variant -> its summary row.
        interventions: variant -> what it protects, as data.
        languages: variant -> language -> its row.
        names: language -> name to show.
        worst: for paired differences.
    """

    quantizer: str
    plain: str | None
    rows: dict[str, Row]
    interventions: dict[str, Row]
    languages: dict[str, dict[str, Row]]
    names: dict[str, str]
    worst: Worst

    @property
    def level(self) -> str:
        """Coverage of the intervals, in percent."""
        return f"{100 * self.worst.level:g} %"

    @property
    def can_remove(self) -> bool:
        """Whether there is unprotected damage that a protection may remove."""
        return self.plain is not None and self.worst.values[self.plain] > 0

    def of_kind(self, *kinds: str) -> list[str]:
        """Variants whose intervention is of these kinds, in order."""
        return [name for name, what in self.interventions.items() if what["kind"] in kinds]

    def protected(self) -> list[str]:
        """Variants that protect something."""
        return [name for name in self.rows if name not in self.of_kind("none")]

    def removed(self, variant: str) -> Estimate:
        """What the variant takes off the largest relative damage of plain quantization, paired."""
        assert self.plain is not None
        return self.worst.difference(self.plain, variant)

    def removed_share(self, variant: str) -> Estimate:
        """`removed` as a share of the unprotected damage as measured."""
        assert self.plain is not None
        whole, removed = self.worst.values[self.plain], self.removed(variant)
        low, high = (None if end is None else end / whole for end in (removed.low, removed.high))
        assert removed.value is not None
        return Estimate(value=removed.value / whole, low=low, high=high, reason=removed.reason)

    def curve(self) -> list[str]:
        """Plain quantization and the magnitude masks, by the share of weights protected."""
        chosen = [*([self.plain] if self.plain else []), *self.of_kind("magnitude")]
        return sorted(chosen, key=lambda name: self.rows[name]["fraction"])

    def controls(self) -> dict[str, list[str]]:
        """Magnitude mask -> the random masks of the same fraction, where there are any."""
        random = self.of_kind("random")
        fraction = {name: what.get("fraction") for name, what in self.interventions.items()}
        pairs = {
            name: [other for other in random if fraction[other] == fraction[name]]
            for name in self.of_kind("magnitude")
        }
        by_size = sorted(pairs.items(), key=lambda pair: self.rows[pair[0]]["fraction"])
        return {name: others for name, others in by_size if others}


def grouped(run: Run, rows: Sequence[Row]) -> list[Group]:
    """The run's variants by quantizer.

    Args:
        run: a run.
        rows: its summary, one row per variant.

    Returns:
        One group per quantizer, in order.
    """
    worst = worst_of(run, rows[0]["draws"], rows[0]["level"])
    names = language_names(run.manifest["texts"]["languages"])
    interventions = {row["variant"]: row["intervention"] for row in run.rows}
    languages: dict[str, dict[str, Row]] = {}
    for row in run.rows:
        languages.setdefault(row["variant"], {})[row["language"]] = row
    groups = []
    for quantizer in dict.fromkeys(row["quantizer"] for row in rows):
        of_group = {row["variant"]: row for row in rows if row["quantizer"] == quantizer}
        plain = [name for name in of_group if interventions[name]["kind"] == "none"]
        groups.append(
            Group(
                quantizer=quantizer,
                plain=plain[0] if plain else None,
                rows=of_group,
                interventions={name: interventions[name] for name in of_group},
                languages={name: languages[name] for name in of_group},
                names=names,
                worst=worst,
            )
        )
    return groups


def clearly_above_zero(estimate: Estimate) -> bool:
    """Whether the interval lies above 0."""
    return estimate.low is not None and estimate.low > 0


def clearly_below_zero(estimate: Estimate) -> bool:
    """Whether the interval lies below 0."""
    return estimate.high is not None and estimate.high < 0
