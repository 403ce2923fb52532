"""Figures of what each language needs: whose weights are shared, and whom they help.

All figures of sensitivity are found here: where the weights lie is drawn in `location_figure`, how
criteria compare in `criteria_figures`, the minimal sets in `minimal_figure`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.colors import Normalize

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import criteria_curves, save
from jaxprotect.runs.drawing import DIVERGING, Drawing, style
from jaxprotect.runs.heat_maps import (
    MOST_WRITTEN,
    by_script,
    colour_squares,
    frame,
    frame_scripts,
    square_figure,
    whole,
    write,
    write_numbers,
)
from jaxprotect.runs.location_figure import location_map
from jaxprotect.runs.minimal_figure import minimal_set_dots
from jaxprotect.runs.wording import counted, listed, number, of_weights, percent

__all__ = [
    "criteria_curves",
    "cross_language_map",
    "location_map",
    "minimal_set_dots",
    "overlap_map",
]

TYPICAL = 0.99
"""Share of the differences that the colours tell apart; those beyond have the colour of the end."""


def overlap_map(
    path: Path | None, languages: Sequence[str], matrix: Float[np.ndarray, "L L"], *, chance: float
) -> Drawing:
    """Which languages' sets share weights.

    Args:
        path: the PNG file to write; None writes nothing.
        languages: of the rows and columns.
        matrix: share of the weights that two sets share, 0 to 1.
        chance: the share that random sets of this size share.

    Returns:
        The drawing; languages by script, then name.

    Raises:
        InputError: fewer than two languages, or sizes that differ.
    """
    _check("matrix", matrix, languages)
    order, names = by_script(languages)
    values = 100 * matrix[np.ix_(order, order)]
    np.fill_diagonal(values, np.nan)
    title = "Which languages need the same weights?"
    with style():
        figure, axes = square_figure(title, names)
        norm = Normalize(100 * chance, max(float(np.nanmax(values)), 100 * chance + 1))
        image = colour_squares(axes, values, "Blues", norm)
        figure.colorbar(
            image, ax=axes, label="weights shared, % (no colour: chance)", aspect=40, pad=0.02
        )
        if len(names) <= MOST_WRITTEN:
            write_numbers(axes, image, values, values)
        frame_scripts(axes, [languages[position] for position in order])
        chance_words = f"random sets share {of_weights(chance)}"
        axes.set_title(f"Weights that two languages' sets share, %; {chance_words}", pad=22)
        pairs = [
            (values[row, column] / 100, f"{names[column]} and {names[row]}")
            for row in range(len(names))
            for column in range(row)
        ]
        mean = float(np.mean([share for share, _ in pairs]))
        (most, closest), (least, farthest) = max(pairs), min(pairs)
        alt = (
            f"Heat map of {counted(len(names), 'language')}: two sets share {percent(mean)} on "
            f"average, from {percent(least)} ({farthest}) to {percent(most)} ({closest}); "
            f"{chance_words}."
        )
        caption = (
            "Squares: of the weights that one language needs most, how many the other needs most "
            f"too. No colour is chance: {chance_words}. Languages are "
            "ordered by script, then by name; frames hold the languages of one script."
        )
        return save(path, figure, title, alt, caption)


def cross_language_map(
    path: Path, languages: Sequence[str], shares: Float[np.ndarray, "L L"]
) -> Drawing:
    """Whom it helps to protect a language's weights.

    Args:
        path: the PNG file to write.
        languages: of the rows and columns.
        shares: [protected, damaged]: what the row language's set removes, as a share of the
            column language's unprotected damage; negative where damage is added, not finite where
            there was none to remove.

    Returns:
        The drawing; languages by script, then name.

    Raises:
        InputError: fewer than two languages, or sizes that differ.
    """
    _check("shares", shares, languages)
    order, names = by_script(languages)
    values = 100 * np.where(np.isfinite(shares), shares, np.nan)[np.ix_(order, order)]
    known = np.flatnonzero(~np.isnan(values).any(axis=0))
    means = values.mean(axis=0)
    above = values - means
    best = {int(column): int(values[:, column].argmax()) for column in known}
    title = "Does protecting a language's weights help that language most?"
    with style():
        figure, axes = square_figure(title, names)
        far = np.abs(above[:, known]).ravel()
        limit = float(np.clip(np.quantile(far, TYPICAL), 1, 50)) if far.size else 1.0
        image = colour_squares(axes, above, DIVERGING, Normalize(-limit, limit))
        label = "percentage points above the mean of the column"
        extend = "both" if far.max(initial=0) > limit else "neither"
        figure.colorbar(image, ax=axes, label=label, aspect=40, pad=0.02, extend=extend)
        if len(names) <= MOST_WRITTEN:
            axes.set_ylim(len(names) - 0.5, -1.8)
            axes.set_yticks([-1.15, *range(len(names))], ["mean of the column", *names])
            axes.axhspan(-1.8, -0.5, color="white")
            write_numbers(axes, image, values, above)
            for column in best:
                write(axes, column, -1.15, whole(means[column]))
        for column, row in best.items():
            frame(axes, column, row, 1)
        axes.set_xlabel("language whose damage is removed")
        axes.set_ylabel("language whose weights are protected")
        axes.set_title("Share of the column language's damage that is removed, %")
        caption = (
            "Numbers: what protecting the row language's weights takes off the column language's "
            "damage. Colours: how far that is above (blue) or below "
            "(red) the mean of the column; no colour at all would mean "
            "that it does not matter whose weights are protected. Framed: the best set for each "
            "language; on the diagonal, it is the language's own."
        )
        if len(known) < len(names):
            unknown = [name for column, name in enumerate(names) if column not in known]
            caption += f" Grey: no damage to remove ({listed(unknown, 25)})."
        return save(path, figure, title, _cross_alt(values, known, best), caption)


def _check(name: str, matrix: np.ndarray, languages: Sequence[str]) -> None:
    if len(languages) < 2:
        raise InputError(f"`languages` has {len(languages)}; at least two can be compared")
    if len(matrix) != len(languages):
        raise InputError(f"`{name}` has {len(matrix)} rows; there are {len(languages)} languages")


def _cross_alt(values: np.ndarray, known: np.ndarray, best: Mapping[int, int]) -> str:
    start = f"Heat map of {counted(len(values), 'language')}: "
    if not len(known):
        return start + "there is no damage to remove."
    own_set = np.eye(len(values), dtype=bool)[:, known]
    own, others = (values[:, known][where].mean() for where in (own_set, ~own_set))
    first = sum(column == row for column, row in best.items())
    return start + (
        f"a language's own set removes {number(own, 0)} % of its damage on average, another "
        f"language's {number(others, 0)} %; its own is the best for {first} of {len(known)}."
    )
