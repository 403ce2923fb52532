"""Figures of what the public functions return: a notebook shows them, with words for the blind.

A `Drawing` has the picture as `png`, what it shows as `alt`, and how to read it as `caption`.
"""

from collections.abc import Mapping
from pathlib import Path

from jaxprotect.errors import InputError
from jaxprotect.evaluation.damage import Disparity
from jaxprotect.models.axes import Eligible
from jaxprotect.models.census import Census
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.damage_figure import damage_bars
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.location_figure import location_map
from jaxprotect.runs.minimal_folder import read_minimal
from jaxprotect.runs.search_figures import language_losses, size_curve
from jaxprotect.runs.sensitivity_figures import overlap_map
from jaxprotect.runs.universe_figure import universe_map
from jaxprotect.selection.masks import count, eligible_count
from jaxprotect.selection.overlap import chance_overlap, overlap_matrix
from jaxprotect.selection.overlap import location as places_of

__all__ = ["damages", "location", "overlap", "search", "universe", "verdict"]


def universe(
    model: Model | Census, mask: Mask | None = None, *, eligible: Eligible = "matrices"
) -> Drawing:
    """A model's parameters as a treemap down to heads; areas are exact numbers.

    Args:
        model: a model, or the census of one whose weights are not there.
        mask: a protected set; parts then have the colour of the share of them that is protected.
        eligible: which leaves of the mask count.

    Returns:
        The drawing.

    Raises:
        InputError: a mask that does not fit the model or protects nothing.
    """
    return universe_map(None, model.config, name=model.name, mask=mask, eligible=eligible)


def damages(result: Disparity, *, title: str = "What does each language lose?") -> Drawing:
    """What a quantized model costs each language: bars with intervals, nats per sentence beside.

    Args:
        result: what `disparity` found.
        title: the question that the figure answers.

    Returns:
        The drawing.
    """
    return damage_bars("damages", result.rows(), result.summary(), title=title)


def location(
    sets: Mapping[str, Mask], params: Params, *, eligible: Eligible = "matrices"
) -> Drawing:
    """Where in the model each language's set lies, in multiples of a random set's share.

    Args:
        sets: language -> its mask.
        params: the parameter tree (only shapes are read).
        eligible: which leaves count.

    Returns:
        The drawing.

    Raises:
        InputError: no set, or one that protects nothing or does not fit.
    """
    rows = [
        {"language": language} | row
        for language, mask in sets.items()
        for row in places_of(mask, params, eligible)
    ]
    return location_map(None, rows)


def overlap(
    sets: Mapping[str, Mask], params: Params, *, eligible: Eligible = "matrices"
) -> Drawing:
    """How much of their sets every two languages share, beside what chance would share.

    Args:
        sets: language -> its mask, all of one size.
        params: the parameter tree (only shapes are read).
        eligible: which leaves count.

    Returns:
        The drawing.

    Raises:
        InputError: fewer than two sets, sets of different sizes, or one that does not fit.
    """
    sizes = {language: count(mask, params, eligible) for language, mask in sets.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"`sets` are of different sizes, {sizes}; chance is of sets of one size")
    names, shared = overlap_matrix(sets, params, eligible)
    chance = chance_overlap(sizes[names[0]] / eligible_count(params, eligible))
    return overlap_map(None, names, shared, chance=chance)


def search(folder: Path | str) -> Drawing:
    """The worst language's damage at every size that a search tried, with its band.

    Args:
        folder: the `out` of `find_minimal_set`.

    Returns:
        The drawing.

    Raises:
        InputError: no finished search, or a damaged one.
    """
    return size_curve(read_minimal(Path(folder)))


def verdict(folder: Path | str) -> Drawing:
    """Every language's damage on the test sentences, with nothing protected and with the set found.

    Args:
        folder: the `out` of `find_minimal_set`.

    Returns:
        The drawing.

    Raises:
        InputError: no finished search, or a damaged one.
    """
    found = read_minimal(Path(folder))
    return language_losses(found.damages, found.names, found.level)
