"""Figures of one search for a minimal set: damage by size on tune, and by language on test."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxprotect.runs.drawing import (
    BLUE,
    GREY,
    ORANGE,
    Drawing,
    new_figure,
    style,
    to_png,
    whiskers,
    zero_line,
)
from jaxprotect.runs.fraction_figure import fraction_axis
from jaxprotect.runs.minimal_folder import MinimalFolder, Row
from jaxprotect.runs.wording import counted, listed, of_weights, relative_cell


def size_curve(search: MinimalFolder) -> Drawing:
    """The worst language's damage on tune at every size that was tried, with its band.

    Args:
        search: a finished search.

    Returns:
        The drawing: a line through the sets chosen afresh, and apart the sets pruned from larger
        ones.
    """
    group, curve = search.group, search.curve
    rows = [group.rows[name] for name in search.variants]
    afresh = [place for place, of in enumerate(curve) if of["pruned_from"] is None]
    pruned = [place for place, of in enumerate(curve) if of["pruned_from"] is not None]
    x = np.array([100 * row["fraction"] for row in rows])
    y = np.array([100 * row["worst_relative"] for row in rows])
    banded = all(row["worst_relative_low"] is not None for row in rows)
    title = "How much must be protected, until no language loses too much?"
    with style():
        figure = new_figure(8, 4.9, title)
        axes = figure.subplots()
        for code in group.names:
            of_code = [100 * group.languages[name][code]["relative"] for name in search.variants]
            axes.plot(x[afresh], np.array(of_code)[afresh], color=GREY, linewidth=0.7, alpha=0.7)
        if banded:
            low, high = np.array([_ends(rows, place) for place in afresh]).T
            axes.fill_between(x[afresh], low, high, color=BLUE, alpha=0.18, lw=0)
        axes.plot(x[afresh], y[afresh], color=BLUE, linewidth=2)
        for place in (*afresh, *pruned):
            if banded and place in pruned:
                axes.plot([x[place]] * 2, _ends(rows, place), color=BLUE, linewidth=0.9, alpha=0.6)
            _mark(axes, x[place], y[place], met=curve[place]["met"], pruned=place in pruned)
        if search.summary["found"]:
            share = 100 * search.summary["fraction"]
            axes.axvline(share, color=ORANGE, linestyle="--", linewidth=1.2)
        zero_line(axes, vertical=False)
        axes.set_ylabel("relative damage, %")
        axes.set_xlabel("weights protected, % of the eligible ones")
        fraction_axis(axes, sorted(set(x.tolist())))
        handles = _legend(search, bool(pruned), group.note())
        figure.legend(handles=handles, loc="outside lower left", ncol=3)
        png = to_png(figure)
    first, last = rows[afresh[0]], rows[afresh[-1]]
    alt = f"Relative damage of the worst-hit language on tune: {_at(first)}, {_at(last)}. "
    if search.summary["found"]:
        of_found = rows[search.variants.index(_found_name(search))]
        alt += f"The set found: {_at(of_found)}."
    else:
        met = [of_weights(of["fraction"]) for of in curve if of["met"]]
        alt += f"The target is met at {listed(met)}." if met else "No size meets the target."
    caption = (
        "Tune sentences, on which sizes were chosen. Filled marks: the target is met in every "
        f"language with {search.level} confidence; open marks: not. Bands hold whichever language "
        "truly is the worst."
    )
    if pruned:
        caption += " Diamonds: what was left of a larger set after its least useful weights."
    return Drawing(name="sizes", title=title, alt=alt.strip(), caption=caption, png=png)


def language_losses(
    damages: Sequence[Row],
    names: Mapping[str, str],
    level: str,
    *,
    before_key: str = "unprotected",
    labels: tuple[str, str] = ("unprotected", "protected"),
) -> Drawing:
    """Every language's damage on test, before and after.

    Args:
        damages: `language`, and `relative` and `before_key` with `_low` and `_high`.
        names: language -> name to show.
        level: of the intervals.
        before_key: column of the damage before.
        labels: before and after, in words.

    Returns:
        The drawing, the language that loses most after on top.
    """
    rows = sorted(damages, key=lambda row: row["relative"])
    places = np.arange(len(rows))
    before, after = (np.array([100 * row[key] for row in rows]) for key in (before_key, "relative"))
    title = f"What does each language lose, {labels[0]} and {labels[1]}?"
    with style():
        figure = new_figure(8, 1.9 + 0.29 * len(rows), title)
        axes = figure.subplots()
        axes.hlines(places, after, before, color="#d0d0d0", linewidth=2.4, zorder=1)
        looks = ((before, before_key, ORANGE, "D"), (after, "relative", BLUE, "o"))
        for values, key, colour, marker in looks:
            ends = None
            if rows[0][f"{key}_low"] is not None:
                pairs = [[100 * row[f"{key}_{end}"] for end in ("low", "high")] for row in rows]
                ends = whiskers(values, np.array(pairs))
            label = labels[key == "relative"]
            axes.errorbar(
                values, places, xerr=ends, fmt=marker, color=colour, capsize=2.5, markersize=5,
                elinewidth=1, label=label,
            )  # fmt: skip
        zero_line(axes, vertical=True)
        axes.set_yticks(places, [names[row["language"]] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        note = "" if rows[0]["relative_low"] is None else f" ({level} intervals)"
        axes.set_xlabel(f"relative damage: nats added, % of the original{note}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncol=2)
        png = to_png(figure)
    told = [
        f"{names[row['language']]} {relative_cell(row, 'relative')} instead of "
        f"{relative_cell(row, before_key)}"
        for row in rows[::-1]
    ]
    return Drawing(
        name="languages",
        title=title,
        alt=f"Relative damage of {counted(len(rows), 'language')} on test: {listed(told, 25)}.",
        caption=(
            "Test sentences, on which nothing was chosen. Each interval is for its language alone; "
            "the paired differences, which are narrower, are in the table."
        ),
        png=png,
    )


def _found_name(search: MinimalFolder) -> str:
    sought = search.summary["found"], search.summary["pruned_from"]
    sizes = [(of["protected"], of["pruned_from"]) for of in search.curve]
    return search.variants[sizes.index(sought)]


def _mark(axes: Axes, x: float, y: float, *, met: bool, pruned: bool) -> None:
    axes.plot(
        x,
        y,
        "D" if pruned else "o",
        color=BLUE,
        markersize=5,
        markerfacecolor=BLUE if met else "white",
        zorder=4,
    )


def _legend(search: MinimalFolder, pruned: bool, note: str) -> list[Line2D]:
    def mark(marker: str, face: str, label: str) -> Line2D:
        return Line2D(
            [], [], color=BLUE, marker=marker, markerfacecolor=face, linestyle="", label=label
        )

    handles = [
        Line2D([], [], color=BLUE, linewidth=2, label=f"worst language{note}"),
        Line2D([], [], color=GREY, linewidth=0.7, label="each language"),
        mark("o", BLUE, "target met"),
        mark("o", "white", "target not met"),
    ]
    if pruned:
        handles.append(mark("D", "white", "pruned from a larger set"))
    if search.summary["found"]:
        handles.append(Line2D([], [], color=ORANGE, linestyle="--", label="the set found"))
    return handles


def _ends(rows: Sequence[Row], place: int) -> list[float]:
    return [100 * rows[place][f"worst_relative_{end}"] for end in ("low", "high")]


def _at(row: Row) -> str:
    return f"{relative_cell(row, 'worst_relative')} at {of_weights(row['fraction'])}"
