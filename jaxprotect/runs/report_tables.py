"""The tables of a report, as text to show and numbers to sort by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxprotect.runs.comparisons import Group, Row, duels, verdict
from jaxprotect.runs.findings import describe, within_budgets
from jaxprotect.runs.wording import (
    cell,
    disparity_cell,
    number,
    of_weights,
    percent,
    relative_cell,
    with_interval,
)

LONG = 20
"""Letters of a row's name beyond which its column is wide."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Args:
        text: what it says.
        sort: what it sorts by; None (after all others) where undefined.
        note: smaller, below.
        look: `more` or `less`, a square of a heat map in that colour; empty = plain.
        share: of the full colour, 0 to 1.
    """

    text: str
    sort: str | float | None
    note: str = ""
    look: Literal["", "more", "less"] = ""
    share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column names its rows.

    Args:
        name: unique among the tables of a run.
        caption: what it holds.
        columns: headings.
        rows: cells, as many as columns.
        filter: what to type to find rows, or columns; empty = no filter.
        find: what the filter finds.
        languages: code of each row's language; empty where rows are something else.
        heat: whether it is a heat map.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    filter: str = ""
    find: Literal["rows", "columns"] = "rows"
    languages: tuple[str, ...] = ()
    heat: bool = False

    @property
    def long_names(self) -> bool:
        """Whether the first column needs room."""
        return any(max(len(row[0].text), len(row[0].note)) > LONG for row in self.rows)


def variant_table(groups: Sequence[Group], *, seed: bool) -> Table:
    """Every variant: what it protects, the worst language, the disparity.

    Args:
        groups: the run's variants by quantizer.
        seed: also the original study's three ratios.

    Returns:
        One row per variant in the order of the run.
    """
    several = len(groups) > 1
    level = groups[0].level
    study = ("r1", "r2", "r3") if seed else ()
    columns = [
        "Variant",
        *(["Quantizer"] if several else []),
        "Weights protected",
        "KiB more",
        "Worst relative damage",
        "Removed, points",
        "Worst damage, nats per sentence",
        "Gap, points",
        "Disparity",
        *(f"{ratio.upper()} (study)" for ratio in study),
    ]
    rows = []
    for group in groups:
        for name, row in group.rows.items():
            quantizer = [Cell(text=group.quantizer, sort=group.quantizer)] if several else []
            rows.append(
                (
                    Cell(text=name, sort=name, note=_what(group, name)),
                    *quantizer,
                    Cell(
                        text=of_weights(row["fraction"]),
                        sort=row["fraction"],
                        note=f"{row['protected']:,}",
                    ),
                    more_bytes_cell(row),
                    worst_cell(group, row),
                    removed_cell(group, name),
                    Cell(
                        text=cell(row, "worst_damage"),
                        sort=row["worst_damage"],
                        note=group.names[row["worst_absolute_language"]],
                    ),
                    Cell(text=cell(row, "gap", scale=100), sort=row["gap"]),
                    ratio_cell(row),
                    *(_study_cell(row, f"seed_{ratio}") for ratio in study),
                )
            )
    return Table(
        name="variants",
        caption=(
            f"Every variant. In brackets {level} intervals; those of the worst damages, the gap "
            "and the disparity hold whichever language truly is the worst. KiB more: values and "
            "indices. Removed: against no protection, paired. Points are percentage points."
        ),
        columns=tuple(columns),
        rows=tuple(rows),
        filter="Filter variants",
    )


def budget_table(group: Group, name: str) -> Table:
    """The best protection within each share of the weights."""
    rows = [
        (
            Cell(text=budget, sort=index),
            Cell(text=describe(group, variant), sort=describe(group, variant)),
            Cell(
                text=of_weights(group.rows[variant]["fraction"]),
                sort=group.rows[variant]["fraction"],
            ),
            more_bytes_cell(group.rows[variant]),
            worst_cell(group, group.rows[variant]),
            removed_cell(group, variant),
            ratio_cell(group.rows[variant]),
        )
        for index, (budget, variant) in enumerate(within_budgets(group))
    ]
    return Table(
        name=name,
        caption=(
            "The least damage in the worst language within a share of the eligible weights. Picked "
            "and measured on the same sentences: exploratory."
        ),
        columns=(
            "Within",
            "Protected",
            "Weights",
            "KiB more",
            "Worst relative damage",
            "Removed, points",
            "Disparity",
        ),
        rows=tuple(rows),
    )


def duel_table(group: Group, name: str) -> Table:
    """Magnitude masks against random masks of the same count."""
    rows = []
    for duel in duels(group):
        row = group.rows[duel.variant]
        random = [group.rows[other]["worst_relative"] for other in duel.random]
        spread = f"{percent(min(random))} to {percent(max(random))}"
        mean = sum(random) / len(random)
        rows.append(
            (
                Cell(text=of_weights(row["fraction"]), sort=row["fraction"]),
                Cell(text=relative_cell(row, "worst_relative"), sort=row["worst_relative"]),
                Cell(text=percent(mean), sort=mean, note=spread if len(random) > 1 else ""),
                Cell(text="\n".join(duel.differences), sort=mean - row["worst_relative"]),
                Cell(text=verdict(duel), sort=verdict(duel)),
            )
        )
    return Table(
        name=name,
        caption=(
            "The largest weights against as many at random, by the relative damage of the worst "
            f"language. Differences in percentage points: random minus largest, one per random "
            f"mask, paired {group.level} intervals; above 0, the largest weights leave less damage."
        ),
        columns=(
            "Weights",
            "Largest weights protected",
            "Random weights protected, mean",
            "Differences, points",
            "The largest weights leave",
        ),
        rows=tuple(rows),
    )


def _what(group: Group, variant: str) -> str:
    text = describe(group, variant)
    return "" if text == variant else f"protects {text}"


def worst_cell(group: Group, row: Row) -> Cell:
    """The largest relative damage, and where."""
    return Cell(
        text=relative_cell(row, "worst_relative"),
        sort=row["worst_relative"],
        note=group.names[row["worst_language"]],
    )


def more_bytes_cell(row: Row) -> Cell:
    """What protection adds to the model's bytes: values and indices."""
    return Cell(text=f"{row['overhead_bytes'] / 1024:,.1f}", sort=row["overhead_bytes"])


def removed_cell(group: Group, variant: str) -> Cell:
    """What the variant takes off the largest relative damage of plain quantization, paired."""
    if group.plain is None or variant in group.of_kind("none"):
        return Cell(text="–", sort=None)
    removed = group.removed(variant)
    assert removed.value is not None
    text = with_interval(removed.value, removed.low, removed.high, scale=100)
    return Cell(text=text, sort=removed.value)


def ratio_cell(row: Row) -> Cell:
    """The disparity; where it is undefined, the mean that it would divide by."""
    note = ""
    if row["ratio"] is None:
        note = f"reference mean {relative_cell(row, 'reference_relative')}"
    return Cell(text=disparity_cell(row), sort=row["ratio"], note=note)


def _study_cell(row: Row, key: str) -> Cell:
    value = row[key]
    if value is None:
        return Cell(text="undefined", sort=None, note=row[f"{key}_reason"])
    return Cell(text=number(value), sort=value)
