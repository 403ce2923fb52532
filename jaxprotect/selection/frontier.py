"""Within a budget: the best scheme of every technique, and what combining them adds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxprotect.errors import InputError
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.recipes import Ground
from jaxprotect.selection.techniques import (
    Technique,
    prefix_cost,
    with_compensation,
    with_prefix,
)

COMBINED = 3
"""How many of the best schemes are tried with error compensation."""

Progress = Callable[[Sequence[str]], Iterable[str]]
"""Wraps the names that are gone through, such as a progress bar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """A scheme within the budget, and what the tune sentences say of it.

    Args:
        technique: which made it; combinations joined by ` + `.
        scheme: the scheme.
        bytes: of its files.
        worst: its largest relative damage on tune.
    """

    technique: str
    scheme: Scheme
    bytes: int
    worst: float


def best_of_each(
    ground: Ground,
    budget: int,
    base: QuantSpec,
    techniques: Mapping[str, Technique],
    *,
    progress: Progress = iter,
) -> list[Tried]:
    """The scheme of each technique that hurts the worst-off language least on tune.

    Args:
        ground: what to build on.
        budget: bytes of the files; no scheme is larger.
        base: eligible leaves and dtypes.
        techniques: name -> technique.
        progress: wraps the names.

    Returns:
        One per technique that fits something into the budget.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    found = []
    for name in progress(list(techniques)):
        made = [tried(ground, name, scheme) for scheme in techniques[name](ground, budget, base)]
        if made:
            found.append(min(made, key=lambda one: one.worst))
    return [_held(one, budget) for one in found]


def combinations(
    ground: Ground,
    budget: int,
    base: QuantSpec,
    singles: Sequence[Tried],
    techniques: Mapping[str, Technique],
) -> list[Tried]:
    """The best schemes with error compensation; the best of all with a learned prefix, too.

    The prefix takes bytes, so that the scheme is made again in what it leaves.

    Args:
        ground: what to build on.
        budget: bytes of the files; no scheme is larger.
        base: eligible leaves and dtypes.
        singles: of `best_of_each`.
        techniques: that made them.

    Returns:
        The combinations.
    """
    ranked = sorted(singles, key=lambda one: one.worst)
    bare = [
        one
        for one in ranked[: COMBINED + 1]
        if one.scheme.weights is None and one.scheme.prefix is None
    ]
    made = [
        tried(
            ground, f"{one.technique} + error compensation", with_compensation(ground, one.scheme)
        )
        for one in bare[:COMBINED]
    ]
    best = min((*ranked, *made), key=lambda one: one.worst)
    name = best.technique.split(" + ")[0]
    if best.scheme.prefix is None and ground.start is not None:
        try:
            again = techniques[name](ground, budget - prefix_cost(ground), base)
        except InputError:  # the prefix leaves less than the smallest file
            again = []
        for scheme in again:
            compensating = scheme.weights is None and best.scheme.weights is not None
            with_weights = with_compensation(ground, scheme) if compensating else scheme
            label = f"{best.technique} + cached prefix"
            made.append(tried(ground, label, with_prefix(ground, with_weights)))
    return [_held(one, budget) for one in made]


def tried(ground: Ground, technique: str, scheme: Scheme) -> Tried:
    """Size a scheme and measure it on tune."""
    return Tried(
        technique=technique,
        scheme=scheme,
        bytes=ground.file_size(scheme),
        worst=ground.worst(scheme),
    )


def _held(one: Tried, budget: int) -> Tried:
    """The promise of this module, checked where it could be broken."""
    if one.bytes > budget:
        raise AssertionError(f"{one.technique} made {one.bytes} bytes of a budget of {budget}")
    return one
