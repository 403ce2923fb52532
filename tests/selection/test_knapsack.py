"""The multiple-choice knapsack against every choice there is, and against linear programming."""

import itertools

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, linprog, milp

from jaxprotect.errors import InputError
from jaxprotect.selection.knapsack import _relaxed, allocate, walk_hulls


def draw(units, options, languages, seed):
    """Damages that fall with bytes, heavy-tailed, each language with units of its own."""
    generator = np.random.default_rng(seed)
    bytes_UxB = np.sort(generator.integers(1, 40, (units, options)), axis=1).astype(float)
    need = generator.pareto(1.2, (units, 1, languages))
    falls = 4.0 ** -np.arange(options)[None, :, None] * generator.uniform(
        0.5, 2, (units, options, 1)
    )
    cheapest, dearest = bytes_UxB.min(axis=1).sum(), bytes_UxB.max(axis=1).sum()
    budget = cheapest + generator.uniform(0.1, 0.9) * (dearest - cheapest)
    return need * falls, bytes_UxB, float(budget)


def optimum(damages, bytes_UxB, budget, offsets):
    """The best of all choices."""
    units, options, _ = damages.shape
    rows = np.arange(units)
    return min(
        (offsets + damages[rows, choice].sum(axis=0)).max()
        for choice in itertools.product(range(options), repeat=units)
        if bytes_UxB[rows, choice].sum() <= budget
    )


@pytest.mark.parametrize("seed", range(20))
def test_bound_and_worst_enclose_the_best_of_all_choices(seed):
    languages = 1 + seed % 4
    damages, bytes_UxB, budget = draw(5, 4, languages, seed)
    offsets = np.random.default_rng(seed).normal(0, 0.1, languages)
    best = optimum(damages, bytes_UxB, budget, offsets)
    found = allocate(damages, bytes_UxB, budget, offsets=offsets)
    rows = np.arange(5)
    assert bytes_UxB[rows, found.choice].sum() <= budget
    assert found.worst == pytest.approx((offsets + damages[rows, found.choice].sum(axis=0)).max())
    assert found.bound <= best + 1e-9
    assert best - 1e-9 <= found.worst <= 1.1 * best + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_it_is_within_two_percent_of_the_best_of_many_units(seed):
    """The optimum by branch and bound, of 40 units of 4 widths in 3 languages."""
    damages, bytes_UxB, budget = draw(40, 4, 3, seed)
    units, options, languages = damages.shape
    flat = damages.reshape(-1, languages).T
    one_each = np.kron(np.eye(units), np.ones(options))
    constraints = [
        LinearConstraint(np.hstack([one_each, np.zeros((units, 1))]), 1, 1),
        LinearConstraint(np.append(bytes_UxB.reshape(-1), 0)[None], -np.inf, budget),
        LinearConstraint(np.hstack([flat, -np.ones((languages, 1))]), -np.inf, 0),
    ]
    solved = milp(
        np.append(np.zeros(units * options), 1.0),
        constraints=constraints,
        integrality=np.append(np.ones(units * options), 0),
        bounds=None,
        options={"mip_rel_gap": 1e-4, "time_limit": 20},
    )
    found = allocate(damages, bytes_UxB, budget, offsets=np.zeros(languages))
    assert found.bound <= solved.fun + 1e-9
    assert found.worst <= 1.02 * solved.fun
    assert found.worst >= solved.mip_dual_bound - 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_walking_hulls_solves_the_linear_programme(seed):
    damages, bytes_UxB, budget = draw(12, 5, 1, seed)
    walk = walk_hulls(damages[:, :, 0], bytes_UxB, budget)
    solved = linprog(
        damages.reshape(-1),
        A_ub=bytes_UxB.reshape(1, -1),
        b_ub=[budget],
        A_eq=np.kron(np.eye(12), np.ones(5)),
        b_eq=np.ones(12),
        bounds=(0, 1),
    )
    assert _relaxed(damages, walk, np.zeros(1))[0] == pytest.approx(solved.fun)
    assert 0 <= walk.share < 1


def test_the_bound_allows_for_the_slack():
    damages, bytes_UxB, budget = draw(5, 4, 2, 0)
    tight = allocate(damages, bytes_UxB, budget, offsets=np.zeros(2))
    loose = allocate(damages, bytes_UxB, budget, offsets=np.zeros(2), slack=5.0)
    assert loose.bound < tight.bound
    assert loose.bound <= optimum(damages, bytes_UxB, budget + 5, np.zeros(2)) + 1e-9
    np.testing.assert_array_equal(loose.choice, tight.choice)


def test_options_of_infinite_cost_are_not_taken():
    damages, bytes_UxB, budget = draw(6, 3, 2, 1)
    bytes_UxB[:, 1] = np.inf
    found = allocate(damages, bytes_UxB, budget, offsets=np.zeros(2))
    assert (found.choice != 1).all()


def test_a_budget_for_everything_buys_everything():
    damages, bytes_UxB, _ = draw(6, 3, 2, 2)
    damages = -np.sort(-damages, axis=1)
    found = allocate(damages, bytes_UxB, 1e6, offsets=np.zeros(2))
    assert found.worst == pytest.approx(damages[:, -1].sum(axis=0).max())
    assert found.bound == pytest.approx(found.worst, rel=0.01)


def test_what_cannot_be_bought_or_weighed_is_refused():
    damages, bytes_UxB, _ = draw(6, 3, 2, 3)
    with pytest.raises(InputError, match="`budget` is 1 bytes; the cheapest choice has"):
        allocate(damages, bytes_UxB, 1.0, offsets=np.zeros(2))
    damages[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="`damages` are not all finite"):
        allocate(damages, bytes_UxB, 1e6, offsets=np.zeros(2))
