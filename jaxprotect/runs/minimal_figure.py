"""Figure: the smallest sets found, by quantizer and criterion, beside the lower bounds."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import HIGHLIGHTED, Row, criterion_name, looks_of, save
from jaxprotect.runs.drawing import INK, Drawing, mark_plainly, new_figure, style
from jaxprotect.runs.wording import listed, of_weights, percent


def minimal_set_dots(
    path: Path | None,
    rows: Sequence[Row],
    *,
    target: str = "",
    highlight: Sequence[str] = HIGHLIGHTED,
) -> Drawing:
    """The smallest set found per quantizer and criterion, beside the lower bound.

    Args:
        path: the PNG file to write; None writes nothing.
        rows: `quantizer`, `criterion`, `eligible`, `found` (number of weights; None if the target
            was not reached, 0 if nothing is needed), `lower_bound` (weights, or None).
        target: what a set must meet, in words.
        highlight: as in `criteria_curves`.

    Returns:
        The drawing.

    Raises:
        InputError: no row, or too much to highlight.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one search is needed")
    looks = looks_of([row["criterion"] for row in rows], highlight)
    title = "How few weights are enough, and how few can be?"
    target = target.replace("<=", "≤")
    places: list[float] = []
    labels: list[str] = []
    with style():
        groups = list(dict.fromkeys(row["quantizer"] for row in rows))
        height = 2.0 + 0.2 * (len(rows) + 1.4 * len(groups))
        figure = new_figure(8, height, title)
        axes = figure.subplots()
        place = 0.0
        for group in groups:
            places.append(place)
            labels.append(group)
            for row in (row for row in rows if row["quantizer"] == group):
                place += 1
                places.append(place)
                labels.append(criterion_name(row["criterion"]))
                _draw_search(axes, row, place, *looks[row["criterion"]])
            place += 1.4
            if group != groups[-1]:
                axes.axhline(place - 0.7, color="#dddddd", linewidth=0.8)
        axes.set_yticks(places, labels)
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in groups else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(place - 0.7, -0.8)
        _scale_sizes(axes, rows)
        axes.set_xlabel("size of the set, % of the eligible weights (log scale)")
        if target:
            axes.set_title(f"Smallest set with {target}")
        looks_like = (("o", 6, "smallest set found"), ("|", 9, "lower bound on any set"))
        handles = [
            Line2D([], [], color=INK, marker=marker, markersize=size, linestyle="", label=label)
            for marker, size, label in looks_like
        ]
        figure.legend(handles=handles, loc="outside lower left", ncol=2)
        caption = (
            "Dots: the smallest set that the search found to be enough in every language, with "
            "confidence. Ticks: the lower bound on any set's size, if damages are as the "
            "surrogate predicts (corrected at the set found); between the two the truth is open."
        )
        return save(path, figure, title, _sets_alt(rows, groups, target), caption)


def _draw_search(axes: Axes, row: Row, place: float, colour: str, marker: str) -> None:
    """A dot at the size found, a tick at the bound, and the size in words at the right."""
    found, bound = (
        None if row[key] is None else 100 * row[key] / row["eligible"]
        for key in ("found", "lower_bound")
    )
    if bound:
        axes.plot(bound, place, "|", color=colour, markersize=8, markeredgewidth=1.6, zorder=3)
    if found:
        if bound:
            axes.plot([bound, found], [place, place], color=colour, linewidth=0.9, alpha=0.5)
        size = 9 if marker == "." else 6
        axes.plot(found, place, marker, color=colour, markersize=size, zorder=4)
    text = "not reached" if found is None else "nothing needed"
    axes.text(
        1.02,
        place,
        percent(found / 100) if found else text,
        transform=axes.get_yaxis_transform(),
        verticalalignment="center",
        fontsize=8,
        color=INK if found else "#666666",
    )


def _scale_sizes(axes: Axes, rows: Sequence[Row]) -> None:
    shares = [
        100 * row[key] / row["eligible"]
        for row in rows
        for key in ("found", "lower_bound")
        if row[key]
    ]
    low, high = (min(shares), max(shares)) if shares else (0.1, 100)
    left, right = low / 1.6, min(high * 1.6, 130.0)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    digits = (1,) if high > 50 * low else (1, 2, 5)
    marks = (digit * 10.0**power for power in range(-6, 3) for digit in digits)
    mark_plainly(axes.xaxis, [mark for mark in marks if left <= mark <= right])
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def _sets_alt(rows: Sequence[Row], groups: Sequence[str], target: str) -> str:
    texts = []
    for group in groups:
        of_group = [row for row in rows if row["quantizer"] == group]
        reached = sorted(
            (row["found"] / row["eligible"], criterion_name(row["criterion"]))
            for row in of_group
            if row["found"] is not None
        )
        if not reached:
            texts.append(f"{group}: not reached")
            continue
        share, name = reached[0]
        texts.append(f"{group}: {of_weights(share)} of the weights by {name}")
        if not share:
            texts[-1] = f"{group}: nothing is needed"
        if missed := [criterion_name(row["criterion"]) for row in of_group if row["found"] is None]:
            texts[-1] += f" (not reached by {listed(missed, 20)})"
    wanted = f" with {target}" if target else ""
    return f"Smallest sets found{wanted}. {'; '.join(texts)}."
