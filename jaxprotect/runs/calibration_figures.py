"""Figures of calibration: damages by method, and by the language that was calibrated on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import BLUE, DIVERGING, GREY, Drawing, new_figure, style, whiskers
from jaxprotect.runs.heat_maps import (
    MOST_WRITTEN,
    by_script,
    colour_squares,
    frame,
    square_figure,
    write_numbers,
)
from jaxprotect.runs.wording import counted, language_names, number, percent

Row = dict[str, Any]


def calibration_dots(path: Path, rows: Sequence[Row]) -> Drawing:
    """The worst and the mean damage of every method, one panel per quantizer.

    Args:
        path: the PNG file to write.
        rows: `quantizer`, `name`, `worst` with `_low` and `_high`, `mean`, all relative; the first
            of each quantizer is what the others are held against.

    Returns:
        The drawing.

    Raises:
        InputError: no row.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one method is needed")
    quantizers = list(dict.fromkeys(row["quantizer"] for row in rows))
    title = "What does calibration gain at equal bytes?"
    said = []
    with style():
        most = max(sum(row["quantizer"] == q for row in rows) for q in quantizers)
        figure = new_figure(8, 1.2 + (0.6 + 0.2 * most) * len(quantizers), title)
        panels = figure.subplots(len(quantizers), 1, squeeze=False)[:, 0]
        for axes, quantizer in zip(panels, quantizers, strict=True):
            chosen = [row for row in rows if row["quantizer"] == quantizer]
            places = np.arange(len(chosen))
            worst, mean = (
                100 * np.array([row[key] for row in chosen]) for key in ("worst", "mean")
            )
            ends = None
            if chosen[0]["worst_low"] is not None:
                ends = 100 * np.array([[row["worst_low"], row["worst_high"]] for row in chosen])
                ends = whiskers(worst, ends)
            axes.errorbar(worst, places, xerr=ends, fmt="o", color=BLUE, markersize=4.5,
                          elinewidth=0.9, label="worst language")  # fmt: skip
            axes.plot(mean, places, "D", color=GREY, markersize=3.5, label="mean of the languages")
            axes.axvline(worst[0], color=BLUE, linewidth=0.7, linestyle=":")
            axes.set_yticks(places, [row["name"] for row in chosen])
            axes.set_ylim(len(chosen) - 0.5, -0.5)
            axes.set_xlim(left=min(0.0, float(mean.min())))
            axes.set_title(quantizer)
            best = int(worst.argmin())
            said.append(
                f"{quantizer}: {percent(worst[0] / 100)} with {chosen[0]['name']}, least with "
                f"{chosen[best]['name']} ({percent(worst[best] / 100)})"
            )
        panels[-1].set_xlabel("relative damage, %")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncol=2)
        caption = (
            "Dots: relative damage of the language hurt most, with intervals that hold whichever "
            "language that is; dotted: absmax. Diamonds: the mean over languages. Within a panel "
            "all files have the same size. For differences, read the paired intervals."
        )
        alt = f"Relative damage of the worst language. {'; '.join(said)}."
        return save(path, figure, title, alt, caption)


def calibration_map(path: Path, cells: Sequence[Row], *, label: str) -> Drawing:
    """Damage of every language (columns) by what was calibrated on (rows).

    Args:
        path: the PNG file to write.
        cells: `calibrated_on`, `language`, `relative`; a full table.
        label: what was calibrated, in words.

    Returns:
        The drawing; languages by script, then name, other calibrations below.

    Raises:
        InputError: fewer than two languages.
    """
    languages = list(dict.fromkeys(row["language"] for row in cells))
    if len(languages) < 2:
        raise InputError(f"`cells` has {len(languages)} languages; at least two can be compared")
    of = {(row["calibrated_on"], row["language"]): row["relative"] for row in cells}
    order, _ = by_script(languages)
    columns = [languages[position] for position in order]
    others = [name for name in dict.fromkeys(a for a, _ in of) if name not in languages]
    named = language_names(columns)
    values = 100 * np.array([[of[a, b] for b in columns] for a in (*columns, *others)])
    single = values[: len(columns)]
    above = values - single.mean(axis=0)
    title = f"Does it matter on which language one calibrates? {label}"
    with style():
        figure, axes = square_figure(title, [named[language] for language in columns])
        figure.set_figheight(figure.get_figheight() + 0.35 * len(others))
        limit = max(float(np.abs(above).max()), 0.01)
        image = colour_squares(axes, -above, DIVERGING, Normalize(-limit, limit))
        bar = "percentage points below the mean of the column"
        figure.colorbar(image, ax=axes, label=bar, aspect=40, pad=0.02)
        axes.set_yticks(range(len(values)), [*(named[language] for language in columns), *others])
        if len(columns) <= MOST_WRITTEN:
            write_numbers(axes, image, values, -above, lambda value: number(value, 1))
        for column, row in enumerate(single.argmin(axis=0)):
            frame(axes, column, int(row), 1)
        axes.set_xlabel("language whose damage is measured")
        axes.set_ylabel("calibrated on")
        axes.set_title("Relative damage of the column language, %")
        own = np.eye(len(columns), dtype=bool)
        best = int((single.argmin(axis=0) == np.arange(len(columns))).sum())
        alt = (
            f"{label}, {counted(len(columns), 'language')}: calibrated on itself, a language loses "
            f"{percent(single[own].mean() / 100)} on average, calibrated on another one "
            f"{percent(single[~own].mean() / 100)}; its own calibration is the best of the single "
            f"ones for {best} of {len(columns)}."
        )
        caption = (
            "Numbers: relative damage of the column language when the quantizer was calibrated on "
            "the row's language. Colours: how far that is below (blue) or above (red) the mean of "
            "the single calibrations. Framed: the best single calibration for each language."
        )
        return save(path, figure, title, alt, caption)
