"""Figure: the worst language's damage, and the disparity, by the share of weights protected."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from jaxprotect.runs.comparisons import Group, Row
from jaxprotect.runs.drawing import (
    BLUE,
    GREEN,
    GREY,
    MARKS,
    ORANGE,
    Drawing,
    mark_plainly,
    new_figure,
    spread,
    to_png,
    whiskers,
    zero_line,
)
from jaxprotect.runs.wording import listed, of_weights, percent, relative_cell


def damage_by_fraction(group: Group, name: str) -> Drawing:
    """The magnitude curve of one quantizer beside its random controls, and the disparity below.

    Args:
        group: variants of one quantizer, magnitude masks among them.
        name: of the file.

    Returns:
        The drawing.
    """
    curve, controls = group.curve(), group.controls()
    rows = [group.rows[variant] for variant in curve]
    defined = any(row["ratio"] is not None for row in rows)
    chance = " more than as many at random" if controls else " the worst-hit language"
    title = f"Does protecting the largest weights help{chance}?"
    figure = new_figure(8, 6.4 if defined else 4.6, title)
    panels = figure.subplots(
        2 if defined else 1,
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[2.2, 1] if defined else [1],
    )[:, 0]
    _draw_curve(panels[0], group, rows, controls)
    if defined:
        _draw_ratio(panels[1], group, rows)
    panels[-1].set_xlabel("weights protected, % of the eligible ones")
    fraction_axis(panels[-1], [100 * row["fraction"] for row in rows])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncol=3)
    first, last = rows[0], rows[-1]
    best = min(rows, key=lambda row: row["worst_relative"])
    alt = (
        f"Largest relative damage against the share of the largest weights protected: "
        f"{_at(first)}, {_at(last)}; the smallest is {_at(best)}. "
    )
    if controls:
        values = [group.rows[other]["worst_relative"] for of in controls.values() for other in of]
        alt += f"Random masks leave {percent(min(values))} to {percent(max(values))}. "
    undefined = [of_weights(row["fraction"]) for row in rows if row["ratio"] is None]
    alt += f"The disparity is undefined at {listed(undefined)}." if undefined else ""
    caption = (
        "Band and whiskers: intervals that hold whichever language truly is the worst. They are "
        "wide because each stands alone; for differences, read the paired comparisons in the text. "
        "Green: the languages hurt most (line) and least (dashes) at the left end."
    )
    if defined:
        caption += (
            " Below: worst relative damage over the mean of the reference languages; a gap where "
            "that mean cannot be told from 0."
        )
    return Drawing(name=name, title=title, alt=alt.strip(), caption=caption, png=to_png(figure))


def _draw_curve(
    axes: Axes, group: Group, rows: Sequence[Row], controls: dict[str, list[str]]
) -> None:
    x = np.array([100 * row["fraction"] for row in rows])
    for language in group.names:
        of_language = [group.languages[row["variant"]][language] for row in rows]
        y = [100 * row["relative"] for row in of_language]
        axes.plot(x, y, color=GREY, linewidth=0.7, alpha=0.7, zorder=1)
    _label_ends(axes, group, rows)
    axes.plot([], [], color=GREY, linewidth=0.7, label="each language")
    values = np.array([100 * row["worst_relative"] for row in rows])
    if rows[0]["worst_relative_low"] is not None:
        low, high = (
            np.array([100 * row[f"worst_relative_{end}"] for row in rows])
            for end in ("low", "high")
        )
        axes.fill_between(x, low, high, color=BLUE, alpha=0.18, linewidth=0, zorder=2)
    label = f"worst language{group.note()}"
    axes.plot(x, values, color=BLUE, linewidth=2, marker="o", markersize=4, label=label, zorder=4)
    for variant, others in controls.items():
        of_others = [group.rows[other] for other in others]
        points = np.array([100 * row["worst_relative"] for row in of_others])
        # Side by side, so that the whiskers of the seeds do not hide each other.
        shifts = 1 + 0.06 * (np.arange(len(others)) - (len(others) - 1) / 2)
        where = 100 * group.rows[variant]["fraction"] * shifts
        ends = None
        if of_others[0]["worst_relative_low"] is not None:
            ends = whiskers(
                points,
                100
                * np.array(
                    [[row[f"worst_relative_{end}"] for end in ("low", "high")] for row in of_others]
                ),
            )
        label = "worst language, as many weights at random"
        axes.errorbar(
            where,
            points,
            yerr=ends,
            fmt="D",
            markersize=3.2,
            color=ORANGE,
            elinewidth=0.8,
            label=label if variant == next(iter(controls)) else None,
            zorder=3,
        )
    zero_line(axes, vertical=False)
    axes.set_ylabel("relative damage, %")


def _label_ends(axes: Axes, group: Group, rows: Sequence[Row]) -> None:
    """Name, at the right end, the languages hurt most and least at the left end."""
    of_first = group.languages[rows[0]["variant"]]
    ordered = sorted(of_first, key=lambda language: of_first[language]["relative"])
    chosen = list(dict.fromkeys([ordered[-1], ordered[0]]))
    x = [100 * row["fraction"] for row in rows]
    lines = [
        [100 * group.languages[row["variant"]][language]["relative"] for row in rows]
        for language in chosen
    ]
    every = [100 * row["relative"] for of in group.languages.values() for row in of.values()]
    places = spread([line[-1] for line in lines], 0.06 * (max(every) - min(every)))
    for language, line, place, style_ in zip(chosen, lines, places, ("-", "--"), strict=False):
        axes.plot(x, line, color=GREEN, linewidth=1.2, linestyle=style_, zorder=3)
        axes.annotate(
            group.names[language],
            (x[-1], line[-1]),
            (1.02, place),
            textcoords=axes.get_yaxis_transform(),
            verticalalignment="center",
            color="#00694d",
            annotation_clip=False,
        )


def _draw_ratio(axes: Axes, group: Group, rows: Sequence[Row]) -> None:
    """The disparity on a log axis, with a gap where it is undefined."""
    x = np.array([100 * row["fraction"] for row in rows])
    value, low, high = (
        np.array([np.nan if row[key] is None else row[key] for row in rows], float)
        for key in ("ratio", "ratio_low", "ratio_high")
    )
    ends = whiskers(value, np.stack([low, high], axis=1))
    axes.errorbar(x, value, yerr=ends, fmt="o-", color=BLUE, markersize=4, elinewidth=1)
    axes.axhline(1, color="#888888", linewidth=0.8)
    missing = x[np.isnan(value)]
    if len(missing):
        axes.plot(missing, np.ones_like(missing), "x", color=ORANGE)
        for place in missing:
            axes.annotate(
                "undefined",
                (place, 1),
                (0, 5),
                textcoords="offset points",
                horizontalalignment="center",
                fontsize=8,
            )
    axes.set_yscale("log", base=2)
    top = np.nanmax(high)
    marks = [2**power for power in range(30) if 2**power <= top * 1.3]
    mark_plainly(axes.yaxis, marks)
    axes.set_ylabel("disparity")
    axes.set_title(f"Disparity: worst over reference languages{group.note()}")


def fraction_axis(axes: Axes, x: Sequence[float]) -> None:
    """A logarithmic axis that has 0 too, marked where something was measured if that fits.

    Args:
        axes: whose horizontal axis.
        x: shares measured, in percent.
    """
    positive = [value for value in x if value > 0]
    if not positive or max(positive) / min(positive) < 4:
        return
    axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    axes.set_xlim(-0.3 * min(positive) * (0 in x), 1.15 * max(positive))
    marks = [float(f"{value:.3g}") for value in positive]
    if len(marks) > 10 or any(b < 1.2 * a for a, b in itertools.pairwise(sorted(marks))):
        marks = [mark for mark in MARKS if mark >= 0.99 * min(positive)]
    mark_plainly(axes.xaxis, [0, *marks])


def _at(row: Row) -> str:
    return f"{relative_cell(row, 'worst_relative')} at {of_weights(row['fraction'])}"
