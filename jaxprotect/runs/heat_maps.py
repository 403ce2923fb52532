"""What heat maps of languages share: their order, their colours, the numbers in their squares."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import offset_copy
from matplotlib.typing import ColorType

from jaxprotect.runs.drawing import INK, new_figure, readable_on
from jaxprotect.runs.wording import language_names, number
from jaxprotect.selection.language_groups import SCRIPTS, script

UNKNOWN = "#e2e2e2"
"""Colour of squares without a value."""

CELL = 0.31
"""Inches of a square with a number in it."""

NARROW = 0.2
"""Inches of a square without a number."""

LEAST = 16
"""Squares for which there is room at least, so that titles fit."""

LETTER = 0.075
"""Inches of a letter of a name."""

MOST_WRITTEN = 30
"""Rows or columns beyond which squares have no numbers."""


def by_script(languages: Sequence[str]) -> tuple[list[int], list[str]]:
    """The languages' positions ordered by script, then name; and their names in that order."""
    names = language_names(languages)
    keys = [(script_name(language), names[language]) for language in languages]
    order = sorted(range(len(languages)), key=lambda position: keys[position])
    return order, [keys[position][1] for position in order]


def script_name(language: str) -> str:
    """English name of a language's script; the code's suffix where there is none."""
    return SCRIPTS.get(script(language), script(language))


def width_of(names: Sequence[str]) -> float:
    """About the inches of the longest name."""
    return LETTER * max(map(len, names))


def square_figure(title: str, names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure for languages by languages, named at the left and below."""
    squares = (CELL if len(names) <= MOST_WRITTEN else NARROW) * max(len(names), LEAST)
    room = width_of(names)
    figure = new_figure(squares + room + 2.0, squares + 0.7 * room + 1.5, title)
    axes = figure.subplots()
    marks = range(len(names))
    axes.set_xticks(marks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(marks, names)
    return figure, axes


def colour_squares(axes: Axes, values: np.ndarray, colours: str, norm: Normalize) -> AxesImage:
    """Squares in the colours of their values; grey where they have none."""
    axes.set_facecolor(UNKNOWN)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes.imshow(values, cmap=colours, norm=norm, aspect="auto")


def whole(value: float) -> str:
    """A number without decimal places."""
    return number(value, 0)


def write_numbers(
    axes: Axes,
    image: AxesImage,
    numbers: np.ndarray,
    values: np.ndarray,
    words: Callable[[float], str] = whole,
) -> None:
    """A number in each square, readable on the colour of its value."""
    for (row, column), shown in np.ndenumerate(numbers):
        if np.isfinite(shown):
            red, green, blue, _ = image.to_rgba(values[row, column])
            write(axes, column, row, words(float(shown)), readable_on((red, green, blue)))


def write(axes: Axes, column: float, row: float, text: str, colour: ColorType = INK) -> None:
    """A few letters in the middle of a square."""
    axes.text(column, row, text, color=colour, fontsize=7, ha="center", va="center")


def frame(axes: Axes, first: int, row: int, size: int, colour: ColorType = INK) -> None:
    """An outline around squares, from their first column and row."""
    corner = (first - 0.5, row - 0.5)
    axes.add_patch(
        Rectangle(corner, size, size, fill=False, edgecolor=colour, linewidth=1.1, clip_on=False)
    )


def frame_scripts(axes: Axes, ordered: Sequence[str]) -> None:
    """Frames around languages of one script, named above their columns, if there are two at least.

    Args:
        axes: a map of languages by languages.
        ordered: the languages by script.
    """
    scripts = [script_name(language) for language in ordered]
    figure, top = axes.get_figure(root=True), axes.get_xaxis_transform()
    line, word = (offset_copy(top, figure, y=height, units="points") for height in (5, 7))
    for name in dict.fromkeys(scripts):
        first, size = scripts.index(name), scripts.count(name)
        if size > 1:
            frame(axes, first, first, size)
            ends, middle = [first - 0.4, first + size - 0.6], first + (size - 1) / 2
            axes.plot(ends, [1, 1], color=INK, linewidth=1.1, transform=line, clip_on=False)
            axes.text(middle, 1, name, transform=word, fontsize=8, ha="center", va="bottom")
    axes.set_ylim(len(ordered) - 0.5, -0.5)
