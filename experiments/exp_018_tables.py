"""Exp-018's numbers: each method against absmax, and each language's calibration on all others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.calibrations import METHODS
from jaxprotect.evaluation.disparity import compare, disparity
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.tables import console, interval, table

Row = dict[str, Any]

ALL_ALIKE = "all languages"
"""What a calibration on every language is called beside those on one."""

MINIMAX = "minimax"
"""And one that weighs them by the multipliers of the minimax choice."""


def method_rows(
    run: Run, quantizers: Sequence[str], methods: Sequence[str], *, draws: int
) -> list[Row]:
    """Each method's damages on test, and what it changes against absmax and against MSE ranges.

    Args:
        run: the finished run.
        quantizers: in order.
        methods: in order.
        draws: bootstrap draws.

    Returns:
        One row per quantizer and method: worst and mean relative damage, the differences of the
        worst with paired intervals, and in how many languages the difference is clear.
    """
    base, first = run.evaluation(ORIGINAL), {row["variant"]: row for row in run.rows}
    rows = []
    for quantizer in quantizers:
        plain = run.evaluation(f"{quantizer}--absmax")
        for method in dict.fromkeys(("absmax", *methods)):
            name = f"{quantizer}--{method}"
            evaluation = run.evaluation(name)
            found = disparity(
                base, evaluation, draws=draws, reference=run.manifest["config"]["reference"]
            )
            against = compare(base, plain, evaluation, draws=draws)
            relative = list(against.relative.values())
            rows.append(
                {
                    "quantizer": quantizer,
                    "method": method,
                    "name": METHODS[method].name,
                    "bytes": first[name]["bytes"],
                    "protected": first[name]["protected"],
                    "changed": first[name]["intervention"]["changed"],
                    "worst_language": found.worst,
                    **found.worst_relative.to_row("worst"),
                    "mean": float(np.mean(list(relative_damages(base, evaluation).values()))),
                    **against.worst_relative.to_row("change"),
                    "better_languages": sum(e.high is not None and e.high < 0 for e in relative),
                    "worse_languages": sum(e.low is not None and e.low > 0 for e in relative),
                    "languages": len(relative),
                }
            )
    return rows


def language_matrix(run: Run, quantizer: str, method: str, *, draws: int) -> list[Row]:
    """Damages of every language after calibration on each one alone, and on all.

    Args:
        run: the finished run.
        quantizer: which.
        method: which.
        draws: bootstrap draws.

    Returns:
        One row per calibration and language: relative damage, and the difference to calibration
        on all languages alike with a paired interval.
    """
    base, languages = run.evaluation(ORIGINAL), run.manifest["texts"]["languages"]
    variants = {language: f"{quantizer}--{method}--{language}" for language in languages}
    variants[ALL_ALIKE] = f"{quantizer}--{method}"
    if f"{quantizer}--{method}_minimax" in run.variants:
        variants[MINIMAX] = f"{quantizer}--{method}_minimax"
    pooled = run.evaluation(variants[ALL_ALIKE])
    plain = relative_damages(base, run.evaluation(f"{quantizer}--absmax"))
    rows = []
    for calibrated, variant in variants.items():
        evaluation = run.evaluation(variant)
        damages = relative_damages(base, evaluation)
        against = compare(base, pooled, evaluation, draws=draws).relative
        rows += [
            {
                "quantizer": quantizer,
                "method": method,
                "calibrated_on": calibrated,
                "language": language,
                "relative": damages[language],
                "absmax": plain[language],
                **against[language].to_row("difference"),
            }
            for language in languages
        ]
    return rows


def own_against_others(cells: Sequence[Row]) -> Row:
    """Whether a language fares better with its own calibration than with another's.

    Args:
        cells: of `language_matrix`, one quantizer and method.

    Returns:
        Mean relative damage with the language's own calibration, with another's, with all
        languages'; for how many languages its own is the best of the single ones; and the largest
        damage of any language under the best and the worst single calibration.
    """
    languages = list(dict.fromkeys(row["language"] for row in cells))
    of = {(row["calibrated_on"], row["language"]): row["relative"] for row in cells}
    matrix = np.array([[of[a, b] for b in languages] for a in languages])
    own = np.eye(len(languages), dtype=bool)
    worst = matrix.max(axis=1)
    return {
        "quantizer": cells[0]["quantizer"],
        "method": cells[0]["method"],
        "own": float(matrix[own].mean()),
        "others": float(matrix[~own].mean()) if len(languages) > 1 else float("nan"),
        "all": float(np.mean([of[ALL_ALIKE, b] for b in languages])),
        "own_is_best": int((matrix.argmin(axis=0) == np.arange(len(languages))).sum()),
        "languages": len(languages),
        "worst_of_all": max(of[ALL_ALIKE, b] for b in languages),
        "best_single": languages[int(worst.argmin())],
        "worst_of_best_single": float(worst.min()),
        "worst_single": languages[int(worst.argmax())],
        "worst_of_worst_single": float(worst.max()),
    }


def by_map(cells: Sequence[Row]) -> list[list[Row]]:
    """The rows of each quantizer and method."""
    keys = dict.fromkeys((row["quantizer"], row["method"]) for row in cells)
    return [[r for r in cells if (r["quantizer"], r["method"]) == key] for key in keys]


def print_methods(rows: Sequence[Row]) -> None:
    """Print one line per quantizer and method."""
    numbers = ["codes changed", "worst, %", "language", "mean, %", "worst - absmax's"]
    made = table("exp_018: calibration", ["quantizer", "method"], [*numbers, "better", "worse"])
    for row in rows:
        made.add_row(
            row["quantizer"],
            row["name"],
            f"{100 * row['changed']:.1f} %",
            interval(row, "worst", 100),
            row["worst_language"],
            f"{100 * row['mean']:.2f}",
            "" if row["method"] == "absmax" else interval(row, "change", 100),
            str(row["better_languages"]),
            str(row["worse_languages"]),
        )
    console().print(made)


def print_matrix(cells: Sequence[Row]) -> None:
    """Print one line per matrix of calibration languages."""
    numbers = ["own, %", "another's, %", "all, %", "own is best", "worst, all", "best single"]
    title = "exp_018: mean damage by the language calibrated on"
    made = table(title, ["quantizer", "method"], [*numbers, "worst single"])
    for of_map in by_map(cells):
        row = own_against_others(of_map)
        made.add_row(
            row["quantizer"],
            row["method"],
            *(f"{100 * row[key]:.3f}" for key in ("own", "others", "all")),
            f"{row['own_is_best']} of {row['languages']}",
            f"{100 * row['worst_of_all']:.2f}",
            f"{row['best_single']} {100 * row['worst_of_best_single']:.2f}",
            f"{row['worst_single']} {100 * row['worst_of_worst_single']:.2f}",
        )
    console().print(made)
