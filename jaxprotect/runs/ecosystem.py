"""How many models and weights there are on levels 0 to 3, and whether such counts fit together."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxprotect.models.hub_tally import LEVELS

Kind = Literal["models", "weights"]
KINDS: tuple[Kind, ...] = ("models", "weights")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much there is on a level, according to somebody.

    Args:
        level: 0 to 3.
        name: what is counted.
        models: how many; None if not counted.
        weights: of all of them together; None if not counted.
        source: who counted, and how.
        date: ISO date of the count; empty if it is not known.
        part_of: name of the row that this one makes up, with all others that are part of it.
        at_least: counts that are lower bounds.
    """

    level: int
    name: str
    models: int | None = None
    weights: int | None = None
    source: str = ""
    date: str = ""
    part_of: str | None = None
    at_least: tuple[Kind, ...] = ()

    def count(self, kind: Kind) -> int | None:
        """Its models or its weights."""
        return self.models if kind == "models" else self.weights

    def words(self, kind: Kind) -> str:
        """A count as text: `1,234`, `at least 1,234`, or empty."""
        count = self.count(kind)
        if count is None:
            return ""
        return f"at least {count:,}" if kind in self.at_least else f"{count:,}"


def uncounted(amounts: Sequence[Amount]) -> list[tuple[int, str]]:
    """The levels, with their names, of which nothing is known."""
    known = {of.level for of in amounts if of.models is not None or of.weights is not None}
    return [(level, name) for level, name in LEVELS.items() if level not in known]


def contradictions(amounts: Sequence[Amount]) -> list[str]:
    """What cannot all be true, or was counted in different ways.

    Args:
        amounts: from one source or several.

    Returns:
        A sentence each: a level with more than the one around it, parts that do not sum to their
        whole, two counts of the same thing, fewer weights than models.
    """
    return [
        *(line for kind in KINDS for line in _too_much(amounts, kind)),
        *(line for kind in KINDS for line in _bad_sums(amounts, kind)),
        *(line for kind in KINDS for line in _two_counts(amounts, kind)),
        *(
            f"{_said(of)}: {of.words('weights')} weights are fewer than {of.words('models')} models"
            for of in amounts
            if of.models is not None and of.weights is not None and not of.at_least
            if of.weights < of.models
        ),
    ]


def _said(of: Amount) -> str:
    return f"level {of.level}, {of.name}"


def _too_much(amounts: Sequence[Amount], kind: Kind) -> list[str]:
    """Rows with more than one of a level that contains theirs."""
    rows = {(of.level, of.name) for of in amounts}
    return [
        f"{_said(inner)}, has {inner.words(kind)} {kind}, more than {_said(outer)}, "
        f"which contains it: {outer.words(kind)}"
        for outer, inner in itertools.permutations(amounts, 2)
        if outer.level < inner.level and kind not in outer.at_least
        # A part of its own level need not contain the next one; a part of another one is a level.
        if (outer.level, outer.part_of) not in rows
        if (outer.count(kind) or 0) < (inner.count(kind) or 0) and outer.count(kind) is not None
    ]


def _bad_sums(amounts: Sequence[Amount], kind: Kind) -> list[str]:
    """Wholes that are not the sum of their parts."""
    lines = []
    for whole in amounts:
        parts = [of for of in amounts if of.part_of == whole.name]
        counts = [of.count(kind) for of in parts]
        stated = [count for count in counts if count is not None]
        total = whole.count(kind)
        # A sum with a part missing says nothing, unless it is too large already.
        wrong = total is not None and (
            sum(stated) > total or (len(stated) == len(parts) > 0 and sum(stated) != total)
        )
        if wrong and not any(kind in of.at_least for of in (whole, *parts)):
            difference = sum(stated) - (total or 0)
            lines.append(
                f"{_said(whole)}: its parts have {sum(stated):,} {kind} together, "
                f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} than "
                f"the whole, {total:,}"
            )
    return lines


def _two_counts(amounts: Sequence[Amount], kind: Kind) -> list[str]:
    """Rows of the same level and name with different counts."""
    return [
        f"{_said(one)}: {one.words(kind)} {kind} ({_origin(one)}) or "
        f"{two.words(kind)} ({_origin(two)})"
        for one, two in itertools.combinations(amounts, 2)
        if (one.level, one.name) == (two.level, two.name)
        if not _agree(one, two, kind)
    ]


def _agree(one: Amount, two: Amount, kind: Kind) -> bool:
    """Whether two counts may both be true; lower bounds agree with all that is not below them."""
    first, second = one.count(kind), two.count(kind)
    if first is None or second is None or first == second:
        return True
    less = one if first < second else two
    return kind in less.at_least


def _origin(of: Amount) -> str:
    return ", ".join(word for word in (of.source, of.date) if word) or "no source"
