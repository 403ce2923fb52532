"""Figure: the curves of several runs, the worst language's damage by the share protected."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np

from jaxprotect.runs.comparisons import Group
from jaxprotect.runs.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    Drawing,
    new_figure,
    style,
    to_png,
    zero_line,
)
from jaxprotect.runs.fraction_figure import fraction_axis
from jaxprotect.runs.wording import of_weights, relative_cell

COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#a37b00")
"""Of the first curves (Okabe and Ito, the yellow darkened); then again, with other marks."""

MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")


def curves_of_runs(groups: Mapping[str, Group]) -> Drawing | None:
    """The magnitude curves of several runs in one figure, with bands.

    Args:
        groups: name -> variants of one quantizer of one run.

    Returns:
        The drawing; None where fewer than two have a curve.
    """
    curves = {name: group for name, group in groups.items() if len(group.curve()) > 1}
    if len(curves) < 2:
        return None
    title = "How much does protecting the largest weights help, by run?"
    texts: list[str] = []
    shares: set[float] = set()
    with style():
        figure = new_figure(8, 4.6 + 0.16 * len(curves), title)
        axes = figure.subplots()
        looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
        for (name, group), (colour, marker, line) in zip(curves.items(), looks, strict=False):
            rows = [group.rows[variant] for variant in group.curve()]
            x = [100 * row["fraction"] for row in rows]
            shares.update(x)
            y = [100 * row["worst_relative"] for row in rows]
            if rows[0]["worst_relative_low"] is not None:
                low, high = (
                    np.array([100 * row[f"worst_relative_{end}"] for row in rows])
                    for end in ("low", "high")
                )
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=4.5, label=name)
            ends = [
                f"{relative_cell(row, 'worst_relative')} at {of_weights(row['fraction'])}"
                for row in (rows[0], rows[-1])
            ]
            texts.append(f"{name}: from {ends[0]} to {ends[1]}")
        zero_line(axes, vertical=False)
        axes.set_ylabel("largest relative damage, %")
        axes.set_xlabel("weights protected, % of the eligible ones")
        fraction_axis(axes, sorted(shares))
        figure.legend(loc="outside lower left", ncol=1 if len(curves) < 3 else 2)
        png = to_png(figure)
    return Drawing(
        name="curves-of-runs",
        title=title,
        alt=f"Relative damage of the worst-hit language by share protected. {'; '.join(texts)}.",
        caption=(
            "One curve per run: plain quantization at the left, then ever more of the largest "
            "weights. Bands: intervals that hold whichever language truly is the worst. Bands that "
            "overlap decide nothing; the runs are not paired."
        ),
        png=png,
    )
