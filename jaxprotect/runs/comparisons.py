"""A run's variants side by side: grouped by quantizer, and paired on the same bootstrap draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxprotect.evaluation.bootstrap import Estimate, percentile_interval, resampled_sums
from jaxprotect.evaluation.disparity import ONE_SENTENCE, SUMS_AT_ONCE, compare
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.run_checks import check_for_report
from jaxprotect.runs.wording import language_names, with_interval

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The largest relative damage of every variant, measured and in each draw.

    Args:
        values: variant -> its largest relative damage.
        samples: variant -> the same in each draw; None with one sentence.
        level: coverage of intervals.
        sentences: of each draw.
    """

    values: dict[str, float]
    samples: dict[str, Float[np.ndarray, "draws"]] | None
    level: float
    sentences: int

    def difference(self, first: str, second: str) -> Estimate:
        """First minus second, paired; positive = the second leaves less damage.

        The same, to the bit, as `-compare(base, first, second).worst_relative`.
        """
        value = self.values[first] - self.values[second]
        if self.samples is None:
            return Estimate(value=value, reason=ONE_SENTENCE)
        gained = self.samples[first] - self.samples[second]
        low, high = percentile_interval(gained[:, None], self.level, sentences=self.sentences)
        return Estimate(value=value, low=float(low[0]), high=float(high[0]))


def worst_of(run: Run, rows: Sequence[Row]) -> Worst:
    """The largest relative damage of each variant on draws that all of them share.

    Args:
        run: a run.
        rows: its summary, one row per variant.

    Returns:
        Values and draws.
    """
    base, draws = run.evaluation(ORIGINAL), rows[0]["draws"]
    values = {row["variant"]: row["worst_relative"] for row in rows}
    order = np.argsort(base.ids)

    def nats(variant: str) -> np.ndarray:
        evaluation = run.evaluation(variant)
        return np.stack([evaluation.nats[name][order] for name in sorted(base.nats)], axis=1)

    samples: dict[str, np.ndarray] = {}
    if len(base.ids) > 1:
        before, names = nats(ORIGINAL), list(values)
        group = max(1, SUMS_AT_ONCE // (draws * len(base.nats)) - 1)
        for start in range(0, len(names), group):
            chosen = names[start : start + group]
            added = [nats(name) - before for name in chosen]
            sums = resampled_sums(np.stack([before, *added]), draws=draws)
            samples.update(zip(chosen, (sums[1:] / sums[0]).max(axis=-1), strict=True))
    return Worst(
        values=values,
        samples=samples or None,
        level=rows[0]["level"],
        sentences=len(base.ids),
    )


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
        run: where the evaluations lie.
    """

    quantizer: str
    plain: str | None
    rows: dict[str, Row]
    interventions: dict[str, Row]
    languages: dict[str, dict[str, Row]]
    names: dict[str, str]
    worst: Worst
    run: Run

    @property
    def level(self) -> str:
        """Coverage of the intervals, in percent."""
        return f"{100 * self.worst.level:g} %"

    def note(self, which: str = "") -> str:
        """A label's ` (95 % intervals)`; empty where one sentence leaves none."""
        return "" if self.worst.samples is None else f" ({self.level} {which}intervals)"

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

    def added(self, variant: str) -> dict[str, Estimate]:
        """Language -> what the variant adds to its relative damage against plain, paired."""
        assert self.plain is not None
        base, plain, other = (self.run.evaluation(name) for name in (ORIGINAL, self.plain, variant))
        draws = self.rows[variant]["draws"]
        return compare(base, plain, other, draws=draws, level=self.worst.level).relative

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

    Raises:
        InputError: rows or a manifest that no report can be made of.
    """
    check_for_report(run)
    worst = worst_of(run, rows)
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
                run=run,
            )
        )
    return groups


def excludes_zero(estimate: Estimate) -> bool:
    """Whether there is an interval, and 0 lies outside it."""
    return (
        estimate.low is not None
        and estimate.high is not None
        and (estimate.low > 0 or estimate.high < 0)
    )


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A magnitude mask against random masks of the same count.

    Args:
        variant: the magnitude mask.
        random: the random masks.
        differences: damage left at random minus damage left by magnitude, one per random mask, as
            text; positive = magnitude leaves less.
        wins: random masks that leave more damage, beyond the paired interval.
        losses: random masks that leave less.
    """

    variant: str
    random: tuple[str, ...]
    differences: tuple[str, ...]
    wins: int
    losses: int


def duels(group: Group) -> list[Duel]:
    """Each magnitude mask against the random masks of its count, paired."""
    found = []
    for variant, random in group.controls().items():
        differences = [group.worst.difference(other, variant) for other in random]
        found.append(
            Duel(
                variant=variant,
                random=tuple(random),
                differences=tuple(
                    with_interval(d.value or 0.0, d.low, d.high, scale=100) for d in differences
                ),
                wins=sum(d.low is not None and d.low > 0 for d in differences),
                losses=sum(d.high is not None and d.high < 0 for d in differences),
            )
        )
    return found


def verdict(duel: Duel) -> str:
    """How a duel ended, as far as the intervals tell."""
    masks = len(duel.random)
    every = {1: "the random mask", 2: "both masks"}.get(masks, f"all {masks} masks")
    told = [
        f"{word} damage than {every if count == masks else f'{count} of {masks} masks'}"
        for count, word in ((duel.wins, "less"), (duel.losses, "more"))
        if count
    ]
    return ", ".join(told) or "no difference shown"
