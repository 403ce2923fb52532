"""One option for every unit within a budget: the multiple-choice knapsack, for the worst of many.

Choosing option b of unit u costs bytes[u, b] and does damages[u, b, l] to language l. Wanted: the
choice within a budget that makes the largest of M linear excesses smallest. For multipliers of the
demands the values are one number per option, and the relaxation (a unit may be split between two
options) is solved by walking the lower convex hulls of all units in the order of value per byte:
per unit argmin_b (value + price * bytes), the price being that of the step at which the budget
ends. So the multipliers are found by `solve_minimax`, and its bound holds for every whole choice.

Source: Sinha and Zoltners, The multiple-choice knapsack problem, Operations Research 27 (1979).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxprotect.errors import InputError
from jaxprotect.selection.minimax import solve_minimax

PAIRS = 400
"""Most options (units * widths) among which pairs of changes are tried, all against all."""

TRIES = 30
"""Most changes; a tenth where only single ones are tried, among so many that each is small."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Knapsack:
    """A choice and what is known about it.

    Args:
        choice: [U] the option of each unit.
        worst: its largest excess.
        bound: no choice within the budget and the slack has a smaller largest excess.
        multipliers: [M] that prove the bound.
        passes: how often all options were weighed.
    """

    choice: Int[np.ndarray, "U"]
    worst: float
    bound: float
    multipliers: Float[np.ndarray, "M"]
    passes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """The relaxed optimum for one value per option.

    Args:
        choice: [U] options, whole.
        unit: the unit that is split, -1 if none is.
        option: the option that it is on its way to.
        share: how far.
        rest_units: units of the steps not taken, the best first.
        rest_options: where they lead.
    """

    choice: Int[np.ndarray, "U"]
    unit: int
    option: int
    share: float
    rest_units: Int[np.ndarray, "S"]
    rest_options: Int[np.ndarray, "S"]


def walk_hulls(
    values: Float[np.ndarray, "U B"], bytes_UxB: Float[np.ndarray, "U B"], budget: float
) -> Walk:
    """Minimise the sum of values within a budget, where one unit may be split.

    Args:
        values: of each option.
        bytes_UxB: cost of each option; infinite = not allowed.
        budget: bytes in all.

    Returns:
        The relaxed optimum.

    Raises:
        InputError: a budget below the sum of the cheapest options.
    """
    rows = np.arange(len(values))
    start = np.lexsort((values, bytes_UxB), axis=-1)[:, 0]
    left = budget - float(bytes_UxB[rows, start].sum())
    if left < 0:
        raise InputError(f"`budget` is {budget:.0f} bytes; the cheapest choice has {budget - left}")
    units, options, costs, slopes = [], [], [], []
    current, before = start, np.full(len(values), np.inf)
    for _ in range(values.shape[1] - 1):
        gain = values[rows, current][:, None] - values
        cost = bytes_UxB - bytes_UxB[rows, current][:, None]
        slope = np.where((gain > 0) & (cost > 0), gain / np.where(cost > 0, cost, 1), 0.0)
        target = slope.argmax(axis=1)
        best = slope[rows, target]
        moving = np.flatnonzero(best > 0)
        if not moving.size:
            break
        before = np.minimum(best, before)  # rounding must not put a step before its predecessor
        units.append(moving)
        options.append(target[moving])
        costs.append(cost[moving, target[moving]])
        slopes.append(before[moving])
        current = np.where(best > 0, target, current)
    choice = start.copy()
    if not units:
        empty = np.zeros(0, np.int64)
        return Walk(
            choice=choice, unit=-1, option=-1, share=0.0, rest_units=empty, rest_options=empty
        )
    order = np.argsort(-np.concatenate(slopes), kind="stable")
    unit, option, cost = (np.concatenate(made)[order] for made in (units, options, costs))
    spent = np.cumsum(cost)
    taken = int(np.searchsorted(spent, left, side="right"))
    choice[unit[:taken]] = option[:taken]
    split = taken < len(unit)
    used = float(spent[taken - 1]) if taken else 0.0
    return Walk(
        choice=choice,
        unit=int(unit[taken]) if split else -1,
        option=int(option[taken]) if split else -1,
        share=(left - used) / float(cost[taken]) if split else 0.0,
        rest_units=unit[taken:],
        rest_options=option[taken:],
    )


def allocate(
    damages: Float[np.ndarray, "U B M"],
    bytes_UxB: Float[np.ndarray, "U B"],
    budget: float,
    *,
    offsets: Float[np.ndarray, "M"],
    slack: float = 0.0,
    start: Float[np.ndarray, "M"] | None = None,
    max_passes: int = 30,
) -> Knapsack:
    """The choice within a budget of the smallest largest excess max_m (offsets + sum damages)_m.

    Candidates of all multipliers met are filled up with the steps that still fit; the best is
    improved by single changes, and by pairs where there are few options.

    Args:
        damages: what each option adds to each demand's excess.
        bytes_UxB: cost of each option; infinite = not allowed.
        budget: bytes in all.
        offsets: excess that no option changes.
        slack: bytes by which true sizes may be below the sums; the bound allows for it.
        start: first multipliers; all equal by default.
        max_passes: see `solve_minimax`.

    Returns:
        The choice and its bound.

    Raises:
        InputError: damages that are not finite, or a budget below the cheapest choice.
    """
    if not np.isfinite(damages).all():
        raise InputError("`damages` are not all finite")
    best: tuple[float, np.ndarray] | None = None

    def oracle(multipliers: np.ndarray) -> np.ndarray:
        nonlocal best
        walk = walk_hulls(damages @ multipliers, bytes_UxB, budget)
        whole = _filled(walk, bytes_UxB, budget)
        worst = float(_excess(damages, whole, offsets).max())
        if best is None or worst < best[0]:
            best = worst, whole
        return _relaxed(damages, walk, offsets)

    first = np.ones(len(offsets)) if start is None else start
    solved = solve_minimax(oracle, first, max_passes=max_passes)
    assert best is not None
    choice = _improved(damages, bytes_UxB, budget, offsets, best[1])
    proof = walk_hulls(damages @ solved.bound_multipliers, bytes_UxB, budget + slack)
    return Knapsack(
        choice=choice,
        worst=float(_excess(damages, choice, offsets).max()),
        bound=float(solved.bound_multipliers @ _relaxed(damages, proof, offsets)),
        multipliers=solved.bound_multipliers,
        passes=solved.passes,
    )


def _excess(damages: np.ndarray, choice: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return offsets + damages[np.arange(len(choice)), choice].sum(axis=0)


def _relaxed(damages: np.ndarray, walk: Walk, offsets: np.ndarray) -> np.ndarray:
    whole = _excess(damages, walk.choice, offsets)
    if walk.unit < 0:
        return whole
    of_unit = damages[walk.unit]
    return whole + walk.share * (of_unit[walk.option] - of_unit[walk.choice[walk.unit]])


def _filled(walk: Walk, bytes_UxB: np.ndarray, budget: float) -> np.ndarray:
    """The whole part of a relaxed optimum, with the best later steps that still fit."""
    choice = walk.choice.copy()
    left = budget - bytes_UxB[np.arange(len(choice)), choice].sum()
    units, options = walk.rest_units, walk.rest_options
    while units.size:
        cost = bytes_UxB[units, options] - bytes_UxB[units, choice[units]]
        fits = np.flatnonzero((cost <= left) & (cost > 0))
        if not fits.size:
            break
        first = fits[0]
        choice[units[first]] = options[first]
        left -= cost[first]
        units, options = units[first + 1 :], options[first + 1 :]
    return choice


def _improved(
    damages: np.ndarray,
    bytes_UxB: np.ndarray,
    budget: float,
    offsets: np.ndarray,
    choice: np.ndarray,
) -> np.ndarray:
    """Changes of one unit, or of two at once, as long as they lower the largest excess."""
    choice, rows = choice.copy(), np.arange(len(choice))
    count, options, _ = damages.shape
    unit = np.repeat(rows, options)
    pairs = count * options <= PAIRS
    for _ in range(TRIES if pairs else TRIES // 10):
        excess = _excess(damages, choice, offsets)
        left = budget - bytes_UxB[rows, choice].sum()
        change = (damages - damages[rows, choice][:, None]).reshape(count * options, -1)
        cost = (bytes_UxB - bytes_UxB[rows, choice][:, None]).reshape(-1)
        after = np.where(cost <= left, (excess + change).max(axis=1), np.inf)
        moves = [int(after.argmin())]
        reached = float(after[moves[0]])
        if pairs:
            allowed = (cost[:, None] + cost <= left) & (unit[:, None] != unit)
            both = np.where(allowed, (excess + change[:, None] + change).max(axis=-1), np.inf)
            if both.min() < reached:
                moves = [int(i) for i in np.unravel_index(both.argmin(), both.shape)]
                reached = float(both.min())
        if not reached < float(excess.max()) - 1e-9 * float(np.abs(excess).max()):
            break
        for move in moves:
            choice[unit[move]] = move % options
    return choice
