"""The same variants on several splits of the sentences, in one table."""

from typing import Any

import numpy as np

from jaxprotect.evaluation.disparity import compare
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.summary import summarise
from jaxprotect.runs.tables import console, table

GUIDED = "language_guided"


def across_splits(
    runs: list[Run], criteria: tuple[str, ...], fractions: tuple[float, ...]
) -> list[dict[str, Any]]:
    """One row per size and criterion: its worst damage in every split, and against the guided one.

    Args:
        runs: one per split, with the same variants.
        criteria: the criteria compared.
        fractions: the sizes.

    Returns:
        Rows: mean, smallest and largest worst relative damage over splits; in how many splits
        the guided choice is better, and in how many its paired 95 % interval says so.
    """
    summaries = [{row["variant"]: row for row in summarise(run)} for run in runs]
    rows = []
    for fraction in fractions:
        for criterion in criteria:
            name = f"{criterion}-{fraction:g}"
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
                "overhead_bytes": float(
                    np.mean([summary[name]["overhead_bytes"] for summary in summaries])
                ),
            }
            if GUIDED in criteria and criterion != GUIDED:
                better, surely = _guided_wins(runs, name, f"{GUIDED}-{fraction:g}")
                row |= {"guided_better": better, "guided_surely_better": surely}
            else:
                row |= {"guided_better": None, "guided_surely_better": None}
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


def print_across(rows: list[dict[str, Any]], quantizer: str, splits: int) -> None:
    """Print the table, best first within each size.

    Args:
        rows: of `across_splits`.
        quantizer: its label.
        splits: how many.
    """
    numbers = ["share", "worst damage, %", "range over splits", "removed", "guided better in"]
    made = table(f"exp_015: {quantizer}; {splits} splits", ["criterion"], numbers)
    for row in sorted(rows, key=lambda row: (row["fraction"], row["worst_relative"])):
        wins = ""
        if row["guided_better"] is not None:
            wins = f"{row['guided_better']} (surely {row['guided_surely_better']})"
        made.add_row(
            row["criterion"],
            f"{100 * row['fraction']:g} %",
            f"{100 * row['worst_relative']:.2f}",
            f"{100 * row['worst_relative_low']:.2f} to {100 * row['worst_relative_high']:.2f}",
            f"{100 * row['removed']:.0f} %",
            wins,
        )
    console().print(made)
