"""Exp-018's report: what calibration gains, and whether its language matters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.exp_018_tables import by_map, own_against_others
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.runs.wording import cell, language_names, of_weights, percent, relative_cell

Row = dict[str, Any]


def write_calibrations(
    path: Path,
    model: str,
    protect: float,
    rows: Sequence[Row],
    cells: Sequence[Row],
    dots: Drawing,
    maps: Sequence[Drawing],
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        model: its name.
        protect: share of the weights that are protected.
        rows: of `method_rows`.
        cells: of `language_matrix`; may be empty.
        dots: the figure of all methods.
        maps: the figures of calibration languages.

    Returns:
        `path`.
    """
    kept = f"{of_weights(protect)} of the weights protected" if protect else "nothing protected"
    lead = (
        f"{model}, {kept}. Calibrated on the select sentences, read on test. All methods of a "
        "quantizer give files of the same size: only where the levels lie, and which code each "
        "weight gets, differ."
    )
    caption = (
        "Difference: the worst language's relative damage less that under absmax ranges, in "
        "percentage points, with paired bootstrap intervals. Better and worse: languages whose own "
        "interval excludes 0."
    )
    methods = plain_table("methods", caption, [_method(row) for row in rows])
    sections = [
        Section(
            title="What do better ranges and error compensation gain, at equal bytes?",
            text=(dots.alt,),
            drawings=(dots,),
            tables=(methods,),
        )
    ]
    if cells:
        found = [own_against_others(of_map) for of_map in by_map(cells)]
        sections.append(
            Section(
                title="Does it matter on which language one calibrates?",
                text=tuple(drawing.alt for drawing in maps),
                drawings=tuple(maps),
                tables=(
                    plain_table(
                        "languages",
                        "Mean relative damage over languages, calibrated on the language itself, "
                        "on one other language, or on all; and the damage of the worst language.",
                        [_matrix(row) for row in found],
                    ),
                ),
            )
        )
    title = "Calibration: can better rounding help every language for free?"
    return write_study(path, title=title, lead=lead, sections=sections)


def _method(row: Row) -> dict[str, str | tuple[str, float | None]]:
    name = language_names([row["worst_language"]])[row["worst_language"]]
    return {
        "Method": f"{row['name']}, {row['quantizer']}",
        "Codes changed": (percent(row["changed"]), row["changed"]),
        "Worst language": name,
        "Its damage": (relative_cell(row, "worst"), row["worst"]),
        "Mean damage": (percent(row["mean"]), row["mean"]),
        "Difference": (cell(row, "change", scale=100), row["change"]),
        "Better": (str(row["better_languages"]), row["better_languages"]),
        "Worse": (str(row["worse_languages"]), row["worse_languages"]),
    }


def _matrix(row: Row) -> dict[str, str | tuple[str, float | None]]:
    names = language_names([row["best_single"], row["worst_single"]])
    best, worst = names[row["best_single"]], names[row["worst_single"]]
    return {
        "Calibration": f"{row['method'].replace('_', ' ')}, {row['quantizer']}",
        "Own": (percent(row["own"]), row["own"]),
        "Another's": (percent(row["others"]), row["others"]),
        "All": (percent(row["all"]), row["all"]),
        "Own is the best": f"{row['own_is_best']} of {row['languages']}",
        "Worst, all": (percent(row["worst_of_all"]), row["worst_of_all"]),
        "Worst, best single": f"{percent(row['worst_of_best_single'])} ({best})",
        "Worst, worst single": f"{percent(row['worst_of_worst_single'])} ({worst})",
    }
