"""What a benchmark reports: one row per figure, beside its goal."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure.

    Args:
        benchmark: what was measured.
        against: what it is held against.
        value: the figure.
        unit: its unit.
        low: smallest figure of any round; None where there is one only.
        high: largest.
        goal: what it should be, in words; empty where there is none.
        met: whether it is; None without a goal.
    """

    benchmark: str
    against: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    goal: str = ""
    met: bool | None = None


def at_least(goal: float, value: float, unit: str = "x") -> tuple[str, bool]:
    """A goal that large figures meet: its words, and whether it is met."""
    return f">= {goal:g} {unit}", value >= goal


def at_most(goal: float, value: float, unit: str) -> tuple[str, bool]:
    """A goal that small figures meet: its words, and whether it is met."""
    return f"<= {goal:g} {unit}".rstrip(), value <= goal


def speedup(benchmark: str, against: str, ratio: tuple[float, float, float], goal: float) -> Row:
    """How many times as fast, with the goal to be at least so much."""
    words, met = at_least(goal, ratio[0])
    return Row(
        benchmark=benchmark,
        against=against,
        value=ratio[0],
        unit="x",
        low=ratio[1],
        high=ratio[2],
        goal=words,
        met=met,
    )


def share(benchmark: str, against: str, value: float, goal: float) -> Row:
    """A share of a limit, in per cent, with the goal to be at least so much."""
    words, met = at_least(100 * goal, 100 * value, "%")
    return Row(
        benchmark=benchmark, against=against, value=100 * value, unit="%", goal=words, met=met
    )


def bounded(benchmark: str, against: str, value: float, unit: str, goal: float) -> Row:
    """A figure with the goal to be at most so much."""
    words, met = at_most(goal, value, unit)
    return Row(benchmark=benchmark, against=against, value=value, unit=unit, goal=words, met=met)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for the README of this folder."""
    lines = [
        "| benchmark | against | measured | goal | met |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        met = {True: "yes", False: "no", None: ""}[row.met]
        lines.append(f"| {row.benchmark} | {row.against} | {measured(row)} | {row.goal} | {met} |")
    return "\n".join(lines)


def measured(row: Row) -> str:
    """The figure with its unit, and its range over the rounds."""
    figure = f"{row.value:.3g} {row.unit}"
    if abs(row.value) >= 1000:
        figure = f"{row.value:,.0f} {row.unit}"
    if row.low is None or row.high is None:
        return figure
    return f"{figure} [{row.low:.3g}, {row.high:.3g}]"
