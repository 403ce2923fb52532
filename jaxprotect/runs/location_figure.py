"""Figure: where in the model each language's weights lie."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from jaxprotect.errors import InputError
from jaxprotect.models.axes import COMPONENTS
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import DIVERGING, Drawing, new_figure, style
from jaxprotect.runs.heat_maps import (
    CELL,
    LEAST,
    MOST_WRITTEN,
    NARROW,
    by_script,
    colour_squares,
    width_of,
    write_numbers,
)
from jaxprotect.runs.wording import counted, number

REACH = 8.0
"""Lifts above this, or below its inverse, have the colour of the end of the scale."""

Part = tuple[str, int | None]
"""A component, and its layer (None outside the blocks)."""


def location_map(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Where in the model each language's weights lie.

    Args:
        path: the PNG file to write; None writes nothing.
        rows: `language`, `layer` (None outside the blocks), `component` and `lift`, as `location`
            gives them.

    Returns:
        The drawing: languages by script, then name; one panel for what lies outside the blocks,
        and one by layer for each component of the blocks.

    Raises:
        InputError: no row.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one language is needed")
    lifts = {(row["language"], (row["component"], row["layer"])): row["lift"] for row in rows}
    languages = list(dict.fromkeys(row["language"] for row in rows))
    order, names = by_script(languages)
    panels = _panels({part for _, part in lifts})
    grids = [
        np.array(
            [[lifts.get((languages[i], part), np.nan) for part in parts] for i in order], float
        )
        for parts in panels.values()
    ]
    every = np.concatenate([grid.ravel() for grid in grids])
    positive = every[every > 0]
    limit = float(np.clip(max(positive.max(initial=1.0), 1 / positive.min(initial=1.0)), 2, REACH))
    columns = sum(len(parts) for parts in panels.values())
    written = columns <= MOST_WRITTEN
    title = "Where in the model are the weights that each language needs?"
    with style():
        width = 1.6 + width_of(names) + (1.2 * CELL if written else NARROW) * max(columns, LEAST)
        figure = new_figure(width, 2.2 + 0.25 * max(len(names), LEAST), title)
        widths = [len(parts) for parts in panels.values()]
        spaces = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
        images = []
        for axes, (name, parts), grid in zip(spaces, panels.items(), grids, strict=True):
            colours = np.clip(grid, 1 / limit, limit)
            images.append(colour_squares(axes, colours, DIVERGING, LogNorm(1 / limit, limit)))
            if written:
                write_numbers(axes, images[-1], grid, colours, _lift_words)
            _label_parts(axes, name, parts)
        spaces[0].set_yticks(range(len(names)), names)
        label = "times the share of a random set (log scale)"
        beyond = bool(((every > limit) | (every < 1 / limit)).any())
        bar = figure.colorbar(
            images[0],
            ax=list(spaces),
            label=label,
            aspect=40,
            pad=0.02,
            extend="both" if beyond else "neither",
        )
        powers = [2.0**power for power in range(-3, 4) if 1 / limit <= 2.0**power <= limit]
        words = [f"{power:g}" if power >= 1 else f"1/{1 / power:g}" for power in powers]
        bar.set_ticks(powers, labels=words)
        bar.minorticks_off()
        caption = (
            "Colours: the share of a language's set that lies in this part, over the part's share "
            "of all eligible weights; 1 (no colour) is what a random set has, blue more, red less. "
            "Languages are ordered by script, then by name."
        )
        return save(path, figure, title, _location_alt(lifts, len(names)), caption)


def _panels(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """What lies outside the blocks, then each component by layer; every panel in its order."""
    ordered = sorted(parts, key=lambda part: (COMPONENTS.index(part[0]), part[1] or 0))
    panels: dict[str, list[Part]] = {"": [part for part in ordered if part[1] is None]}
    for name, layer in ordered:
        if layer is not None:
            panels.setdefault(_words(name), []).append((name, layer))
    return {name: of_panel for name, of_panel in panels.items() if of_panel}


def _words(component: str) -> str:
    return "MLP" if component == "mlp" else component.replace("_", " ")


def _label_parts(axes: Axes, name: str, parts: Sequence[Part]) -> None:
    """Layers by number, as many as can be read; whatever else by its name."""
    if name:
        step = 1 if len(parts) <= 16 else 4
        axes.set_xticks(range(0, len(parts), step), [str(layer) for _, layer in parts[::step]])
        axes.set_xlabel("layer")
        axes.set_title(name)
    else:
        labels = [_words(component) for component, _ in parts]
        axes.set_xticks(range(len(parts)), labels, rotation=45, ha="right", rotation_mode="anchor")


def _lift_words(lift: float) -> str:
    return number(lift, 0 if lift >= 10 else 1 if lift >= 0.1 or lift == 0 else 2)


def _location_alt(lifts: Mapping[tuple[str, Part], float], languages: int) -> str:
    by_part: dict[Part, list[float]] = {}
    for (_, part), lift in lifts.items():
        by_part.setdefault(part, []).append(lift)
    ordered = sorted(by_part, key=lambda part: -float(np.mean(by_part[part])))

    def told(part: Part) -> str:
        where = "" if part[1] is None else f" of layer {part[1]}"
        of_part = by_part[part]
        ends = f"{min(of_part):.2g} to {max(of_part):.2g}"
        return f"{_words(part[0])}{where} ({float(np.mean(of_part)):.2g}, {ends})"

    return (
        f"Heat maps of {counted(languages, 'language')}. Mean over languages, and range, of how "
        f"many times the share of a random set lies there: most in {told(ordered[0])}, least in "
        f"{told(ordered[-1])}."
    )
