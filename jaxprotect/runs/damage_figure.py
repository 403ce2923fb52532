"""Figure: what quantization costs each language, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from jaxprotect.runs.drawing import (
    BLUE,
    INK,
    ORANGE,
    Drawing,
    new_figure,
    style,
    to_png,
    whiskers,
    zero_line,
)
from jaxprotect.runs.wording import cell, counted, language_names, listed, relative_cell

Row = Mapping[str, Any]

ALPHA = 0.85
"""Opacity of the bars."""


def damage_bars(name: str, rows: Sequence[Row], summary: Row, *, title: str) -> Drawing:
    """Relative damage of each language as a bar, the most damaged on top.

    Args:
        name: of the file.
        rows: one per language, as of `Disparity.rows`.
        summary: as of `Disparity.summary`.
        title: the question that it answers.

    Returns:
        The drawing.
    """
    rows = sorted(rows, key=lambda row: row["relative"])
    reference = summary["reference_languages"].split()
    names = language_names(row["language"] for row in rows)
    with style():
        figure = new_figure(8, 1.5 + 0.29 * len(rows), title)
        axes = figure.subplots()
        places = np.arange(len(rows))
        values = np.array([100 * row["relative"] for row in rows])
        colours = [ORANGE if row["language"] in reference else BLUE for row in rows]
        axes.barh(places, values, color=colours, height=0.68, alpha=ALPHA)
        note = ""
        if rows[0]["relative_low"] is not None:
            note = f" ({100 * summary['level']:g} % intervals)"
            ends = [[100 * row["relative_low"], 100 * row["relative_high"]] for row in rows]
            lengths = whiskers(values, np.array(ends))
            axes.errorbar(values, places, xerr=lengths, fmt="none", ecolor="#333333", capsize=2.5)
        zero_line(axes, vertical=True)
        mean = 100 * summary["reference_relative"]
        axes.axvline(mean, color=INK, linestyle=":", label="mean of the reference languages")
        destroyed = [" (destroyed)" if row["destroyed"] else "" for row in rows]
        axes.set_yticks(
            places,
            [names[row["language"]] + mark for row, mark in zip(rows, destroyed, strict=True)],
        )
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"relative damage: nats added, % of the original{note}")
        right = axes.get_yaxis_transform()
        for place, row in enumerate(rows):
            text = cell(row, "damage")
            axes.text(1.02, place, text, transform=right, verticalalignment="center", fontsize=8.5)
        axes.text(1.02, len(rows) - 0.3, "nats per sentence", transform=right, fontsize=8.5)
        kinds = [(BLUE, "other languages"), (ORANGE, "reference languages")]
        handles = [
            Patch(color=colour, alpha=ALPHA, label=label)
            for colour, label in kinds
            if colour in colours
        ]
        figure.legend(handles=[*handles, *axes.get_lines()[-1:]], loc="outside lower left", ncol=3)
        told = [f"{names[row['language']]} {relative_cell(row, 'relative')}" for row in rows[::-1]]
        alt = (
            f"Bar chart of {counted(len(rows), 'language')}, the most damaged on top: "
            f"{listed(told, 25)}."
        )
        caption = (
            "Bars: nats that quantization adds, relative to what the original model needs. "
            "At the right: nats added per sentence. Each interval is for its language alone."
        )
        return Drawing(name=name, title=title, alt=alt, caption=caption, png=to_png(figure))
