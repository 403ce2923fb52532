"""The smallest set that is enough: a search over k that distrusts smooth curves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.progress import progress
from jaxprotect.selection.targets import Verdict

GRID = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of the first, coarse pass."""

Visit = Callable[[int], Evaluation]
"""k -> the evaluation, on the tune sentences, of the best set of k weights."""

Judge = Callable[[Evaluation], Verdict]
"""An evaluation -> whether it meets the target."""

Prune = Callable[[int, int], Evaluation]
"""(found, k) -> the evaluation of the best k weights of the set that was found."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One size that was tried.

    Args:
        count: k, the number of protected weights.
        evaluation: of the set of that size, on the tune sentences.
        verdict: whether it meets the target.
        pruned_from: size of the set that these are the best weights of; None for a set of its own.
    """

    count: int
    evaluation: Evaluation
    verdict: Verdict
    pruned_from: int | None = None

    @property
    def name(self) -> str:
        """Such as `k500`, or `k450-of-500` where it was pruned."""
        return point_name(self.count, self.pruned_from)


def point_name(count: int, pruned_from: int | None = None) -> str:
    """The name of a size that is tried."""
    return f"k{count}" if pruned_from is None else f"k{count}-of-{pruned_from}"


@dataclass(frozen=True, kw_only=True)
class MinimalSearch:
    """The curve, and the smallest size on it that can be trusted.

    Args:
        points: everything tried, by size; pruned sets after the rest.
        found: the smallest size that meets the target and above which every size tried meets it
            too, or what is left of it after pruning; None if there is none.
        closest: the point whose worst upper bound is smallest: the best that was reached.
        isolated: sizes that met the target although a larger one did not; not trusted.
    """

    points: tuple[Point, ...]
    found: Point | None
    closest: Point
    isolated: tuple[int, ...]

    @property
    def nothing_needed(self) -> bool:
        """Whether plain quantization meets the target already."""
        return self.found is not None and self.found.count == 0


def search_minimal(
    visit: Visit,
    judge: Judge,
    total: int,
    *,
    grid: Sequence[float] = GRID,
    precision: float = 1.1,
    max_fraction: float = 1.0,
    prune: Prune | None = None,
) -> MinimalSearch:
    """The smallest k whose set meets a target.

    Curves of damage against size need not fall steadily, so: a coarse grid from below until two
    neighbouring sizes meet the target; then halving, on a logarithmic scale, between the largest
    size that fails below them and the smallest that meets it; then one size between the found one
    and the next. Any failure above a success takes the success back, and the search goes on. From
    what is found the least useful weights are then taken, `precision` at a time, while the target
    holds. The whole curve is kept.

    Args:
        visit: k -> evaluation of the best set of k weights; called once per size.
        judge: evaluation -> verdict.
        total: number of eligible weights.
        grid: fractions to try first.
        precision: stop when the found size is at most this multiple of a size that fails.
        max_fraction: try no larger share of the weights.
        prune: makes smaller sets of the one found; no pruning without.

    Returns:
        The search.

    Raises:
        InputError: grid, precision or largest fraction out of range.
    """
    if not 0 < max_fraction <= 1:
        raise InputError(f"`max_fraction` is {max_fraction}; allowed is above 0 to 1")
    if not precision > 1:
        raise InputError(f"`precision` is {precision}; it must be above 1")
    if not grid or not all(0 < fraction <= 1 for fraction in grid):
        raise InputError(f"`grid` is {tuple(grid)}; fractions above 0 to 1 are allowed")
    most = math.floor(max_fraction * total)
    if most < 1:
        raise InputError(f"`max_fraction` {max_fraction} of {total} weights is not one weight")
    sizes = sorted({max(1, min(most, round(fraction * total))) for fraction in grid} | {most})
    tried: dict[int, Point] = {}
    bar = progress(desc="minimal set", unit="size", total=None)

    def attempt(count: int) -> bool:
        evaluation = visit(count)
        verdict = judge(evaluation)
        tried[count] = Point(count=count, evaluation=evaluation, verdict=verdict)
        bar.update()
        bar.set_postfix_str(f"{count} weights: {'met' if verdict.met else 'not met'}")
        return verdict.met

    if not attempt(0):
        in_a_row = 0
        for size in sizes:
            in_a_row = in_a_row + 1 if attempt(size) else 0
            if in_a_row == 2:
                break
        while (bracket := _bracket(tried)) is not None:
            low, high = bracket
            if high > precision * low and high - low > 1:
                attempt(max(low + 1, min(high - 1, round(math.sqrt(max(low, 1) * high)))))
                continue
            # Verify: a size above that nobody has looked at must meet the target too.
            larger = min((count for count in tried if count > high), default=high)
            between = round(math.sqrt(high * larger))
            if larger <= precision * high or between in tried or attempt(between):
                break
    found, pruned = _result(tried).found, []
    while prune is not None and found is not None and found.count > 1:
        smallest = found.count if not pruned else pruned[-1].count
        smaller = min(smallest - 1, math.floor(smallest / precision))
        if smaller < 1:
            break
        evaluation = prune(found.count, smaller)
        verdict = judge(evaluation)
        pruned.append(
            Point(count=smaller, evaluation=evaluation, verdict=verdict, pruned_from=found.count)
        )
        bar.update()
        if not verdict.met:
            break
    bar.close()
    return _result(tried, pruned)


def _trusted(tried: dict[int, Point]) -> list[int]:
    """Sizes that meet the target with everything tried above them, from the largest down."""
    trusted = []
    for count in sorted(tried, reverse=True):
        if not tried[count].verdict.met:
            break
        trusted.append(count)
    return trusted


def _bracket(tried: dict[int, Point]) -> tuple[int, int] | None:
    """The largest size that fails, and the smallest trusted size above it."""
    trusted = _trusted(tried)
    if not trusted or trusted[-1] == 0:
        return None
    return max(count for count in tried if count < trusted[-1]), trusted[-1]


def _result(tried: dict[int, Point], pruned: Sequence[Point] = ()) -> MinimalSearch:
    points = (*(tried[count] for count in sorted(tried)), *pruned)
    trusted = _trusted(tried)
    met = [tried[count] for count in trusted] + [point for point in pruned if point.verdict.met]
    return MinimalSearch(
        points=points,
        found=met[-1] if met else None,
        closest=min(points, key=lambda point: max(point.verdict.upper.values())),
        isolated=tuple(
            point.count
            for point in points
            if point.verdict.met and point.pruned_from is None and point.count not in trusted
        ),
    )
