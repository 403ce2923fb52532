"""The same variants on several splits of the sentences, in one table."""

from typing import Any

import numpy as np

from jaxprotect.evaluation.disparity import compare
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.summary import summarise
from jaxprotect.runs.tables import console, table
from jaxprotect.selection.byte_budget import bytes_to_reach
from jaxprotect.selection.criteria import GUIDED


def variant_name(criterion: str, fraction: float) -> str:
    """The name of a criterion's set at a budget, in a run of Exp-015."""
    return f"{criterion}-{fraction:g}"


def across_splits(
    runs: list[Run], criteria: tuple[str, ...], fractions: tuple[float, ...]
) -> list[dict[str, Any]]:
    """One row per size and criterion: its worst damage in every split, and against the guided one.

    Args:
        runs: one per split, with the same variants.
        criteria: the criteria compared.
        fractions: the sizes.

    Returns:
        Rows: mean, smallest and largest worst relative damage over splits; how many weights the
        budget held; in how many splits the guided choice is better, and in how many its paired
        95 % interval says so; and `equal_damage`, how many times the bytes of the guided set
        the criterion needs for the same worst damage (geometric mean over splits; None where its
        largest set does not get there in every split).
    """
    summaries = [{row["variant"]: row for row in summarise(run)} for run in runs]
    rows = []
    for fraction in fractions:
        for criterion in criteria:
            name = variant_name(criterion, fraction)
            worst = np.array([summary[name]["worst_relative"] for summary in summaries])
            plain = np.array([summary["none"]["worst_relative"] for summary in summaries])
            row = {
                "criterion": criterion,
                "fraction": fraction,
                "splits": len(runs),
                "worst_relative": float(worst.mean()),
                "worst_relative_low": float(worst.min()),
                "worst_relative_high": float(worst.max()),
                "removed": float((1 - worst / plain).mean()),
                "protected": float(np.mean([summary[name]["protected"] for summary in summaries])),
                "overhead_bytes": float(
                    np.mean([summary[name]["overhead_bytes"] for summary in summaries])
                ),
            }
            if GUIDED in criteria and criterion != GUIDED:
                better, surely = _guided_wins(runs, name, variant_name(GUIDED, fraction))
                row |= {"guided_better": better, "guided_surely_better": surely}
                row["equal_damage"] = _equal_damage(summaries, criterion, fractions, fraction)
            else:
                row |= {"guided_better": None, "guided_surely_better": None, "equal_damage": None}
            rows.append(row)
    return rows


def _guided_wins(runs: list[Run], other: str, guided: str) -> tuple[int, int]:
    better = surely = 0
    for run in runs:
        difference = compare(
            run.evaluation(ORIGINAL), run.evaluation(other), run.evaluation(guided)
        ).worst_relative
        better += difference.value is not None and difference.value < 0
        surely += difference.high is not None and difference.high < 0
    return better, surely


def _equal_damage(
    summaries: list[dict[str, dict[str, Any]]],
    criterion: str,
    fractions: tuple[float, ...],
    fraction: float,
) -> float | None:
    """Bytes that a criterion needs for the guided set's damage, over the guided set's bytes."""
    factors = []
    for summary in summaries:
        # Two budgets may hold the same set, such as a handful of super weights.
        curve = {0: summary["none"]["worst_relative"]}
        for size in sorted(fractions):
            row = summary[variant_name(criterion, size)]
            curve[row["overhead_bytes"]] = row["worst_relative"]
        guided = summary[variant_name(GUIDED, fraction)]
        sizes = sorted(curve)
        needed = bytes_to_reach(sizes, [curve[size] for size in sizes], guided["worst_relative"])
        if needed is None:
            return None
        factors.append(max(needed, 1.0) / guided["overhead_bytes"])
    return float(np.exp(np.mean(np.log(factors))))


def print_across(rows: list[dict[str, Any]], quantizer: str, splits: int) -> None:
    """Print the table, best first within each size.

    Args:
        rows: of `across_splits`.
        quantizer: its label.
        splits: how many.
    """
    numbers = ["budget", "weights", "worst damage, %", "range", "removed"]
    numbers += ["guided wins", "equal damage"]
    made = table(f"exp_015: {quantizer}; {splits} splits", ["criterion"], numbers)
    for row in sorted(rows, key=lambda row: (row["fraction"], row["worst_relative"])):
        wins = ""
        if row["guided_better"] is not None:
            wins = f"{row['guided_better']} (surely {row['guided_surely_better']})"
        made.add_row(
            row["criterion"],
            f"{row['overhead_bytes'] / 1024:.1f} KiB",
            f"{row['protected']:,.0f}",
            f"{100 * row['worst_relative']:.2f}",
            f"{100 * row['worst_relative_low']:.2f} to {100 * row['worst_relative_high']:.2f}",
            f"{100 * row['removed']:.0f} %",
            wins,
            _times(row),
        )
    console().print(made)


def _times(row: dict[str, Any]) -> str:
    if row["guided_better"] is None:
        return ""
    return "more than tried" if row["equal_damage"] is None else f"{row['equal_damage']:.2f} times"
