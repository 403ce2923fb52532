"""Figure: the share of its damage that each language gets back, by treatment and quantizer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import LOOKS, Row, save
from jaxprotect.runs.drawing import Drawing, new_figure, style, whiskers, zero_line
from jaxprotect.runs.wording import language_names, percent

APART = 0.22
"""Distance between the treatments of one language, in languages."""


def recovery_dots(path: Path, rows: Sequence[Row], *, title: str, caption: str) -> Drawing:
    """A panel per quantizer: the share of the damage undone in each language, with intervals.

    Args:
        path: the PNG file to write.
        rows: `quantizer`, `treatment`, `language`, `share`, `share_low`, `share_high` (None where
            a language has no damage to speak of).
        title: the question.
        caption: how to read it.

    Returns:
        The drawing.

    Raises:
        InputError: no row, or more treatments than there are `LOOKS`.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one treatment is needed")
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    if len(treatments) > len(LOOKS):
        raise InputError(f"`rows` has {len(treatments)} treatments; allowed are {len(LOOKS)}")
    quantizers = list(dict.fromkeys(row["quantizer"] for row in rows))
    languages = list(dict.fromkeys(row["language"] for row in rows))
    names = language_names(languages)
    with style():
        height = 1.9 + len(languages) * max(0.24, 0.11 * len(treatments))
        figure = new_figure(max(5.0, 1.6 + 2.9 * len(quantizers)), height, title)
        panels = figure.subplots(1, len(quantizers), sharey=True, squeeze=False)[0]
        for axes, quantizer in zip(panels, quantizers, strict=True):
            axes.set_title(quantizer)
            of_panel = [row for row in rows if row["quantizer"] == quantizer]
            for index, treatment in enumerate(treatments):
                shift = APART * (index - (len(treatments) - 1) / 2)
                found = [row for row in of_panel if row["treatment"] == treatment]
                _draw_treatment(axes, found, languages, shift, *LOOKS[index])
            zero_line(axes, vertical=True)
            axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
            axes.set_axisbelow(True)
            axes.set_xlabel("damage undone, %")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(languages)), [names[language] for language in languages])
        panels[0].set_ylim(len(languages) - 0.4, -0.6)
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="", label=treatment)
            for treatment, (colour, marker) in zip(treatments, LOOKS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower left", ncol=min(4, len(treatments)))
        return save(path, figure, title, _alt(rows, quantizers, treatments), caption)


def _draw_treatment(
    axes: Axes,
    rows: Sequence[Row],
    languages: Sequence[str],
    shift: float,
    colour: str,
    marker: str,
) -> None:
    rows = [row for row in rows if row["share"] is not None]
    if not rows:
        return
    values = 100 * np.array([row["share"] for row in rows])
    ends = 100 * np.array(
        [
            [row["share"] if row[f"share_{end}"] is None else row[f"share_{end}"] for row in rows]
            for end in ("low", "high")
        ]
    )
    places = [languages.index(row["language"]) + shift for row in rows]
    axes.errorbar(
        values,
        places,
        xerr=whiskers(values, ends.T),
        color=colour,
        marker=marker,
        markersize=4,
        linestyle="",
        elinewidth=0.9,
    )


def _alt(rows: Sequence[Row], quantizers: Sequence[str], treatments: Sequence[str]) -> str:
    texts = []
    for quantizer in quantizers:
        told = []
        for treatment in treatments:
            shares = [
                row["share"]
                for row in rows
                if (row["quantizer"], row["treatment"]) == (quantizer, treatment)
                and row["share"] is not None
            ]
            if shares:
                told.append(f"{treatment} {percent(min(shares))} to {percent(max(shares))}")
        texts.append(f"{quantizer}: {', '.join(told) or 'no damage to speak of'}")
    return f"Share of the damage undone, least to most by language. {'; '.join(texts)}."
