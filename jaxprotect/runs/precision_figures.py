"""Figures of mixed precision: where the bits go, and the worst damage over the model's bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from jaxprotect.errors import InputError
from jaxprotect.models.axes import layer_axis
from jaxprotect.runs.criteria_figures import LOOKS, PLAIN, save
from jaxprotect.runs.drawing import MARKS, Drawing, mark_plainly, new_figure, style
from jaxprotect.runs.heat_maps import colour_squares, write_numbers
from jaxprotect.runs.wording import number, percent

LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (1, 4)))
"""Lines of the methods that have no colour of their own."""


def mean_bits(bits: Mapping[str, Any]) -> tuple[list[str], list[str], np.ndarray]:
    """Mean bits of each checkpoint tensor.

    Args:
        bits: leaf path -> integers of each output channel.

    Returns:
        Names of rows (layers, then what lies outside them), names of columns (matrices), and
        [rows, columns] means, NaN where there is no such tensor.
    """
    inside = [path for path in bits if layer_axis(path) == 0]
    depth = max((np.shape(bits[path])[0] for path in inside), default=0)
    outside = [path for path in bits if path not in inside]
    columns = [path.removeprefix("blocks/").removesuffix("/kernel") for path in inside]
    columns += ["itself"] if outside else []
    values = np.full((depth + len(outside), len(columns)), np.nan)
    for column, path in enumerate(inside):
        values[:depth, column] = np.reshape(bits[path], (depth, -1)).mean(axis=1)
    for row, path in enumerate(outside):
        values[depth + row, -1] = np.mean(bits[path])
    names = [f"layer {layer}" for layer in range(depth)]
    return [*names, *(path.removesuffix("/kernel") for path in outside)], columns, values


def allocation_map(path: Path, bits: Mapping[str, Any], *, title: str) -> Drawing:
    """Mean bits by layer and matrix.

    Args:
        path: the PNG file to write.
        bits: leaf path -> integers of each output channel.
        title: what is shown.

    Returns:
        The drawing.

    Raises:
        InputError: no bits.
    """
    if not bits:
        raise InputError("`bits` is empty; at least one leaf is needed")
    rows, columns, values = mean_bits(bits)
    with style():
        figure = new_figure(8, 1.6 + 0.34 * len(rows), title)
        axes = figure.subplots()
        image = colour_squares(axes, values, "Blues", Normalize(2, 8))
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        write_numbers(axes, image, values, values, lambda value: number(value, 2))
        most, least = (
            np.unravel_index(f(values), values.shape) for f in (np.nanargmax, np.nanargmin)
        )
        alt = (
            f"Mean bits by tensor. Most: {rows[most[0]]}, {columns[most[1]]} with "
            f"{values[most]:.2f}; least: {rows[least[0]]}, {columns[least[1]]} with "
            f"{values[least]:.2f}."
        )
        caption = "Mean bits of the output channels of each tensor; darker = more bits."
        return save(path, figure, title, alt, caption)


def damage_over_bytes(path: Path, rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Worst-language damage over the bytes of the whole model, a line per method.

    Args:
        path: the PNG file to write.
        rows: `label`, `bytes`, `worst_relative`; methods in the order of their first row. Damages
            that are not above 0 have no place on the logarithmic scale.

    Returns:
        The drawing.

    Raises:
        InputError: no row with a damage above 0.
    """
    shown = [row for row in rows if row["worst_relative"] > 0]
    if not shown:
        raise InputError("`rows` has no damage above 0; at least one is needed")
    title = "What do as many bytes buy the worst-off language?"
    labels = list(dict.fromkeys(row["label"] for row in shown))
    with style():
        figure = new_figure(8, 5, title)
        axes = figure.subplots()
        for index, label in enumerate(labels):
            points = sorted(
                (row["bytes"] / 2**20, 100 * row["worst_relative"])
                for row in shown
                if row["label"] == label
            )
            colour, marker = LOOKS[index] if index < len(LOOKS) else PLAIN
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=colour,
                marker=marker,
                markersize=4,
                linestyle=LINES[(index - len(LOOKS)) % len(LINES)] if index >= len(LOOKS) else "-",
                label=label,
            )
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        mark_plainly(axes.yaxis, [mark for mark in MARKS if low <= mark <= high])
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_xlabel("bytes of the whole model, MiB")
        axes.set_ylabel("largest damage of any language, % (log)")
        figure.legend(loc="outside right upper")
        best = min(shown, key=lambda row: row["worst_relative"])
        alt = (
            f"Worst damage over bytes of {len(labels)} methods; the smallest is "
            f"{percent(best['worst_relative'])} by {best['label']} at "
            f"{best['bytes'] / 2**20:.2f} MiB."
        )
        caption = "Lower and further left is better; sizes count codes, scales, tables and indices."
        return save(path, figure, title, alt, caption)
