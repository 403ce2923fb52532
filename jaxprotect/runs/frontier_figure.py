"""Figure: the worst language's damage against the true bytes of the file, by technique."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import (
    BLUE,
    INK,
    MARKS,
    Drawing,
    mark_plainly,
    new_figure,
    style,
    zero_line,
)
from jaxprotect.runs.wording import percent

Row = Mapping[str, Any]

LINES = (
    (INK, "o", "-"),
    ("#d55e00", "D", "-"),
    ("#009e73", "s", "-"),
    ("#cc79a7", "^", "-"),
    ("#e69f00", "v", "-"),
    ("#56b4e9", "P", "-"),
    ("#8a6d3b", "X", "-"),
    ("#6a51a3", "*", "-"),
    ("#9a9a9a", "<", "--"),
    ("#9a9a9a", ">", "--"),
    ("#9a9a9a", "d", ":"),
    ("#9a9a9a", "p", ":"),
    (INK, "h", ":"),
    ("#009e73", "8", ":"),
)
"""Colour, marker and dash of the single techniques, in order."""


def frontier_curves(
    path: Path, rows: Sequence[Row], *, chosen: Sequence[Row], sizes: Mapping[str, int]
) -> Drawing:
    """Damage of the worst language over bytes, a line per technique and a band for the choice.

    Args:
        path: the PNG file to write.
        rows: `technique`, `bytes`, `worst_relative` of single techniques.
        chosen: rows of the recommended schemes, with `worst_relative_low` and `_high`.
        sizes: name -> bytes of marks on the axis, such as the uniform quantizers.

    Returns:
        The drawing.

    Raises:
        InputError: no row, or more techniques than lines can tell apart.
    """
    techniques = list(dict.fromkeys(row["technique"] for row in rows))
    if not rows or not chosen:
        raise InputError("`rows` or `chosen` is empty; at least one scheme of each is needed")
    if len(techniques) > len(LINES):
        raise InputError(f"`rows` has {len(techniques)} techniques; {len(LINES)} can differ")
    title = "What does a byte buy the worst-off language?"
    with style():
        figure = new_figure(10, 6, title)
        axes = figure.subplots()
        for technique, (colour, marker, dash) in zip(techniques, LINES, strict=False):
            found = sorted(
                (row for row in rows if row["technique"] == technique), key=lambda r: r["bytes"]
            )
            axes.plot(
                [row["bytes"] / 1024 for row in found],
                [100 * row["worst_relative"] for row in found],
                color=colour,
                marker=marker,
                linestyle=dash,
                linewidth=1.1,
                markersize=5,
                label=technique.replace("_", " "),
            )
        _draw_choice(axes, chosen)
        _scale(axes, rows, chosen)
        axes.set_xscale("log")
        mark_plainly(axes.xaxis, [round(size / 1024) for size in sizes.values()])
        labels = [f"{name}\n{size / 1024:,.0f}" for name, size in sizes.items()]
        axes.set_xticklabels(labels, fontsize=7.5)
        axes.set_xlabel("KiB of the packed file, indices and scales included (log scale)")
        axes.set_ylabel("relative damage of the worst language, % (log scale)")
        figure.legend(loc="outside right upper")
        caption = (
            "Each point is a packed model of its true size, measured on sentences that no choice "
            "saw. Blue: the scheme that the tune sentences recommend within each budget, with its "
            "95 % interval. Lower and further left is better."
        )
        return save(path, figure, title, _alt(rows, chosen), caption)


def _draw_choice(axes: Axes, chosen: Sequence[Row]) -> None:
    found = sorted(chosen, key=lambda row: row["bytes"])
    x = [row["bytes"] / 1024 for row in found]
    if all(row["worst_relative_low"] is not None for row in found):
        low, high = ([100 * row[f"worst_relative_{e}"] for row in found] for e in ("low", "high"))
        axes.fill_between(x, low, high, color=BLUE, alpha=0.15, linewidth=0)
    y = [100 * row["worst_relative"] for row in found]
    axes.plot(x, y, color=BLUE, linewidth=2.4, marker="o", markersize=6, label="recommended")


def _scale(axes: Axes, rows: Sequence[Row], chosen: Sequence[Row]) -> None:
    values = [100 * row["worst_relative"] for row in (*rows, *chosen)]
    if min(values) > 0:
        axes.set_yscale("log")
        mark_plainly(axes.yaxis, MARKS)
        axes.set_ylim(min(values) / 1.3, max(values) * 1.3)
    else:  # a trained prefix can do better than the original: linear up to 1 %
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.6)
        mark_plainly(axes.yaxis, [-1.0, 0.0, *(mark for mark in MARKS if mark >= 1)])
        lows = [100 * row["worst_relative_low"] for row in chosen if row["worst_relative_low"]]
        axes.set_ylim(1.1 * min(values + lows) - 0.1, max(values) * 1.3)
        zero_line(axes, vertical=False)


def _alt(rows: Sequence[Row], chosen: Sequence[Row]) -> str:
    told = [
        f"in {row['bytes'] / 1024:,.0f} KiB {percent(row['worst_relative'])} by "
        f"{row['technique'].replace('_', ' ')}"
        for row in sorted(chosen, key=lambda row: row["bytes"])
    ]
    worst = max(rows, key=lambda row: row["worst_relative"])
    return (
        f"Damage of the worst language over the bytes of the file. Recommended: {'; '.join(told)}. "
        f"The most is {percent(worst['worst_relative'])}, {worst['technique'].replace('_', ' ')}."
    )
