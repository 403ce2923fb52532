"""A run's figures: damage per language, damage against the share protected, and by structure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from jaxprotect.runs.comparisons import Group, Row, grouped
from jaxprotect.runs.damage_figure import damage_bars
from jaxprotect.runs.drawing import (
    BLUE,
    GREY,
    MARKS,
    ORANGE,
    Drawing,
    mark_plainly,
    new_figure,
    style,
    to_png,
    zero_line,
)
from jaxprotect.runs.fraction_figure import damage_by_fraction
from jaxprotect.runs.results import Run, write_atomically
from jaxprotect.runs.structure_figures import structure_figures
from jaxprotect.runs.wording import (
    disparity_cell,
    relative_cell,
)

LINEAR = 0.1
"""Percent of relative damage up to which a scale that has 0 is linear."""


def write_figures(run: Run, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw what the run has variants for, into its folder `figures`.

    Args:
        run: a run with at least one finished variant.
        rows: its summary.

    Returns:
        The PNG files; the same run gives the same bytes.
    """
    return save_drawings(run, draw_figures(grouped(run, rows)))


def save_drawings(run: Run, drawings: Sequence[Drawing]) -> list[Path]:
    """Write drawings into the run's folder `figures`."""
    paths = [run.folder / "figures" / f"{drawing.name}.png" for drawing in drawings]
    for path, drawing in zip(paths, drawings, strict=True):
        write_atomically(path, drawing.png)
    return paths


def draw_figures(groups: Sequence[Group]) -> list[Drawing]:
    """All figures of a run.

    Args:
        groups: its variants by quantizer.

    Returns:
        Drawings with names of their own.
    """
    drawings = []
    with style():
        plain = [group for group in groups if group.plain is not None]
        if len(plain) > 1:
            drawings.append(_damage_by_quantizer(plain))
        for index, group in enumerate(groups):
            end = f"-{index + 1}" if len(groups) > 1 else ""
            if group.plain is not None:
                drawings.append(_damage_by_language(group, f"damage-by-language{end}"))
            if len(group.curve()) > 1:
                drawings.append(damage_by_fraction(group, f"damage-by-fraction{end}"))
            if group.can_remove:
                drawings += structure_figures(group, end)
    return drawings


def _damage_by_language(group: Group, name: str) -> Drawing:
    assert group.plain is not None
    title = f"How much does {group.quantizer} hurt each language, with nothing protected?"
    rows = list(group.languages[group.plain].values())
    return damage_bars(name, rows, group.rows[group.plain], title=title)


def _damage_by_quantizer(groups: Sequence[Group]) -> Drawing:
    """One line of points per quantizer, a point per language."""
    title = "How much does each quantizer hurt the languages, with nothing protected?"
    figure = new_figure(8, 1.6 + 0.5 * len(groups), title)
    axes = figure.subplots()
    texts, lowest = [], np.inf
    for place, group in enumerate(groups):
        assert group.plain is not None
        row = group.rows[group.plain]
        values = [100 * of["relative"] for of in group.languages[group.plain].values()]
        lowest = min([lowest, *values, 100 * (row["worst_relative_low"] or 0)])
        axes.plot(values, [place] * len(values), "|", color=GREY, markersize=11)
        worst = 100 * row["worst_relative"]
        if row["worst_relative_low"] is not None:
            ends = [100 * row["worst_relative_low"], 100 * row["worst_relative_high"]]
            axes.plot(ends, [place, place], color=BLUE, linewidth=5, alpha=0.25)
        axes.plot(worst, place, "o", color=BLUE, markersize=6)
        axes.plot(100 * row["reference_relative"], place, "D", color=ORANGE, markersize=5)
        texts.append(f"{group.quantizer}: {_name(group, row, 'worst_language')} ")
        texts[-1] += relative_cell(row, "worst_relative")
        note = f"{_name(group, row, 'worst_language')}, disparity {disparity_cell(row)}"
        where = axes.get_yaxis_transform()
        axes.text(1.02, place, note, transform=where, verticalalignment="center", fontsize=8.5)
    if lowest > 0:
        axes.set_xscale("log")
        mark_plainly(axes.xaxis, MARKS)
    else:
        zero_line(axes, vertical=True)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
        large = [mark for mark in MARKS if mark >= LINEAR]
        mark_plainly(axes.xaxis, [*(-mark for mark in large), 0, *large])
    axes.set_yticks(range(len(groups)), [group.quantizer for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("relative damage: nats added, % of the original")
    handles = [
        Line2D([], [], color=GREY, marker="|", linestyle="", label="each language"),
        Line2D([], [], color=BLUE, marker="o", label=f"worst language{groups[0].note()}"),
        Line2D(
            [], [], color=ORANGE, marker="D", linestyle="", label="mean of the reference languages"
        ),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncol=3)
    caption = (
        "The scale is logarithmic, so that 8 bits and 2 bits fit in one picture: equal distances "
        f"are equal ratios (around 0, within {LINEAR} %, it is linear). "
        "At the right: the worst-hit language and the disparity."
    )
    alt = f"Largest relative damage by quantizer. {'; '.join(texts)}."
    return Drawing(
        name="damage-by-quantizer", title=title, alt=alt, caption=caption, png=to_png(figure)
    )


def _name(group: Group, row: Row, key: str = "language") -> str:
    return group.names[row[key]]
