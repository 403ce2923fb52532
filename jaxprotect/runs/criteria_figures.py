"""Figure: the worst language's damage by criterion, at equal bytes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxprotect.errors import InputError
from jaxprotect.runs.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARKS,
    ORANGE,
    Drawing,
    mark_plainly,
    new_figure,
    style,
    to_png,
    zero_line,
)
from jaxprotect.runs.results import write_atomically
from jaxprotect.runs.wording import of_weights, percent

Row = Mapping[str, Any]

HIGHLIGHTED = (
    "language_guided",
    "magnitude",
    "expected_gain",
    "fisher_delta",
    "first_reference",
    "random",
)
"""Criteria with a colour of their own where there are too many for each to have one."""

LOOKS = (
    (BLUE, "o"),
    (ORANGE, "D"),
    (GREEN, "s"),
    ("#cc79a7", "^"),
    ("#e69f00", "v"),
    (INK, "X"),
)
"""Colour and marker of the highlighted criteria, in order (colours of Okabe and Ito)."""

PLAIN = (GREY, ".")

DECADE = 10.0
"""Ratio of the largest to the smallest damage from which the scale is logarithmic."""


def criteria_curves(
    path: Path,
    rows: Sequence[Row],
    *,
    unprotected: float,
    band: str = "95 % interval",
    highlight: Sequence[str] = HIGHLIGHTED,
) -> Drawing:
    """Worst-language damage against the budget, a line per criterion.

    Args:
        path: the PNG file to write.
        rows: `criterion`, `fraction` (above 0), `worst_relative`, and `worst_relative_low` and
            `_high` (None without an interval); a criterion may lack a fraction.
        unprotected: the worst language's relative damage with nothing protected.
        band: what lies between low and high.
        highlight: criteria to colour, at most as many as there are `LOOKS`; the others are grey,
            unless all fit.

    Returns:
        The drawing.

    Raises:
        InputError: no row, a fraction that is not above 0, or too much to highlight.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one criterion and fraction is needed")
    lowest = min(row["fraction"] for row in rows)
    if not lowest > 0:
        raise InputError(f"`rows` has the fraction {lowest}; fractions above 0 are drawn")
    looks = looks_of([row["criterion"] for row in rows], highlight)
    fractions = sorted({row["fraction"] for row in rows})
    title = "Which criterion leaves the worst-off language best off, at equal cost?"
    with style():
        figure = new_figure(8, max(4.4, 2.2 + 0.2 * len(looks)), title)
        axes = figure.subplots()
        ends = {}
        for criterion in sorted(looks, key=lambda name: looks[name] != PLAIN):  # grey lines below
            found = [row for row in rows if row["criterion"] == criterion]
            ends[criterion] = _draw_curve(axes, found, *looks[criterion])
        axes.axhline(100 * unprotected, color=INK, linestyle=":", linewidth=1)
        _scale_damage(axes, rows, unprotected)
        axes.set_xscale("log")
        axes.set_xlim(100 * fractions[0] / 1.12, 100 * fractions[-1] * 1.12)
        mark_plainly(axes.xaxis, _share_marks([100 * fraction for fraction in fractions]))
        axes.set_xlabel("bytes of so many % of the weights kept in high precision (log scale)")
        axes.set_ylabel("relative damage of the worst language, %")
        axes.annotate(
            f"nothing protected, {percent(unprotected)}",
            (0.01, 100 * unprotected),
            (0, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            fontsize=8.5,
        )
        _label_curves(axes, ends, looks)
        grey = any(look == PLAIN for look in looks.values())
        caption = (
            f"Lines: relative damage of the language hurt most, on sentences that no criterion "
            f"saw. Bands: {band}{', of the coloured criteria' if grey else ''}. Dotted: with "
            "nothing protected. Lower is better."
        )
        return save(path, figure, title, _curves_alt(rows, fractions, unprotected), caption)


def save(path: Path | None, figure: Figure, title: str, alt: str, caption: str) -> Drawing:
    """Give a figure its words and, if there is a path, write its PNG, whole or not at all."""
    name = "" if path is None else path.stem
    drawing = Drawing(name=name, title=title, alt=alt, caption=caption, png=to_png(figure))
    if path is not None:
        write_atomically(path, drawing.png)
    return drawing


def looks_of(criteria: Sequence[str], highlight: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Criterion -> colour and marker; all have their own while there are enough."""
    present = list(dict.fromkeys(criteria))
    if len(highlight) > len(LOOKS):
        raise InputError(f"`highlight` has {len(highlight)} criteria; {len(LOOKS)} can differ")
    looks = dict(zip(highlight, LOOKS, strict=False))  # whoever else is there: the same everywhere
    looks = {criterion: look for criterion, look in looks.items() if criterion in present}
    if len(present) <= len(LOOKS):
        free = [look for look in LOOKS if look not in looks.values()]
        looks |= dict(zip([c for c in present if c not in looks], free, strict=False))
    return {criterion: looks.get(criterion, PLAIN) for criterion in present}


def criterion_name(criterion: str) -> str:
    """A criterion's code in words."""
    return criterion.replace("_", " ")


def _draw_curve(axes: Axes, rows: Sequence[Row], colour: str, marker: str) -> tuple[float, float]:
    """One criterion's line; its right end, in percent."""
    found = sorted(rows, key=lambda row: row["fraction"])
    x, y = (100 * np.array([row[key] for row in found]) for key in ("fraction", "worst_relative"))
    plain = (colour, marker) == PLAIN
    banded = [row for row in found if row["worst_relative_low"] is not None]
    if banded and not plain:
        low, high = (
            [100 * row[f"worst_relative_{end}"] for row in banded] for end in ("low", "high")
        )
        where = [100 * row["fraction"] for row in banded]
        axes.fill_between(where, low, high, color=colour, alpha=0.13, linewidth=0, zorder=2)
    width, size = (0.8, 3.0) if plain else (1.8, 5.0)
    axes.plot(x, y, color=colour, marker=marker, linewidth=width, markersize=size, zorder=3)
    return float(x[-1]), float(y[-1])


def _scale_damage(axes: Axes, rows: Sequence[Row], unprotected: float) -> None:
    """Logarithmic where damages differ tenfold and none is 0 or below; linear with 0 elsewhere."""
    keys = ("worst_relative", "worst_relative_low", "worst_relative_high")
    values = [row[key] for row in rows for key in keys if row[key] is not None] + [unprotected]
    if min(values) > 0 and max(values) > DECADE * min(values):
        axes.set_yscale("log")
        axes.set_ylim(100 * min(values) / 1.15, 100 * max(values) * 1.15)
        mark_plainly(axes.yaxis, MARKS)
    else:
        axes.set_ylim(100 * min(0.0, *values) * 1.05, 100 * max(values) * 1.08)
        zero_line(axes, vertical=False)


def _label_curves(
    axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, tuple[str, str]]
) -> None:
    """Every line's name at its right end, moved apart, with a line that leads there."""
    to_axes = axes.transScale + axes.transLimits
    criteria = list(ends)
    heights = [float(to_axes.transform(ends[criterion])[1]) for criterion in criteria]
    gap = min(0.055, 1 / len(criteria))
    for criterion, place in zip(criteria, _apart(heights, gap), strict=True):
        colour, _ = looks[criterion]
        plain = looks[criterion] == PLAIN
        axes.annotate(
            criterion_name(criterion),
            ends[criterion],
            (1.05, place),
            textcoords="axes fraction",
            verticalalignment="center",
            color="#666666" if plain else INK,
            fontweight="normal" if plain else "bold",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkB": 0,
            },
        )


def _apart(places: Sequence[float], gap: float) -> np.ndarray:
    """Places in 0 to 1, in the same order, at least `gap` apart, moved up and down alike."""
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    free = np.array(places)[order] - steps  # what must not fall from one to the next
    up, down = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    moved = np.empty(len(places))
    moved[order] = np.clip((up + down) / 2, 0, max(0.0, 1 - steps[-1])) + steps
    return moved


def _share_marks(shares: Sequence[float]) -> list[float]:
    """Where something was measured, if the numbers fit; round numbers elsewhere."""
    marks = [float(f"{share:.3g}") for share in shares]
    if len(marks) <= 10 and all(b >= 1.3 * a for a, b in itertools.pairwise(marks)):
        return marks
    return [mark for mark in MARKS if 0.99 * shares[0] <= mark <= 1.01 * shares[-1]]


def _curves_alt(rows: Sequence[Row], fractions: Sequence[float], unprotected: float) -> str:
    texts = []
    for fraction in fractions:
        found = sorted(
            (row["worst_relative"], criterion_name(row["criterion"]))
            for row in rows
            if row["fraction"] == fraction
        )
        told = [f"{name} ({percent(damage)})" for damage, name in found]
        texts.append(f"with the bytes of {of_weights(fraction)} of the weights {told[0]}")
        texts[-1] += f" is best and {told[-1]} last" if len(told) > 1 else ""
    return (
        f"Damage of the worst language by criterion; unprotected it is {percent(unprotected)}; "
        f"{'; '.join(texts)}."
    )
