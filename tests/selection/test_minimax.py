"""The level method against linear programming and against every subset."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from jaxprotect.selection.minimax import _project, _promise, solve_minimax


def draw(languages, weights, seed):
    """Heavy-tailed gains, shared and private parts; losses that they nearly cancel."""
    generator = np.random.default_rng(seed)
    shared = generator.pareto(1.5, weights)
    gains = shared * generator.uniform(0.2, 1.0, (languages, 1)) + generator.pareto(
        1.5, (languages, weights)
    )
    return gains, gains.sum(axis=1) * generator.uniform(0.6, 1.2, languages)


def top(gains, multipliers, k):
    return np.argsort(-(multipliers @ gains), kind="stable")[:k]


def solve(gains, losses, k, **options):
    calls = []

    def oracle(multipliers):
        calls.append(multipliers)
        return losses - gains[:, top(gains, multipliers, k)].sum(axis=1)

    return solve_minimax(oracle, np.ones(len(losses)), **options), calls


def relaxed_optimum(gains, losses, k):
    """min t s.t. losses - gains x <= t, sum x <= k, 0 <= x <= 1."""
    languages, weights = gains.shape
    solved = linprog(
        np.append(np.zeros(weights), 1.0),
        A_ub=np.vstack([np.hstack([-gains, -np.ones((languages, 1))]), [*np.ones(weights), 0]]),
        b_ub=np.append(-losses, k),
        bounds=[(0, 1)] * weights + [(None, None)],
    )
    return solved.fun


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("languages", [2, 5])
def test_bound_and_worst_enclose_the_relaxed_optimum(languages, seed):
    gains, losses = draw(languages, 300, seed)
    solved, calls = solve(gains, losses, 40)
    optimum = relaxed_optimum(gains, losses, 40)
    assert solved.bound <= optimum + 1e-9 * abs(optimum)
    assert solved.bound >= optimum - 0.01 * abs(optimum)
    assert solved.worst >= optimum - 1e-9 * abs(optimum)
    assert solved.passes == len(calls) <= 40


@pytest.mark.parametrize("seed", range(12))
def test_bound_and_worst_enclose_the_best_subset(seed):
    languages, k = 2 + seed % 2, 3 + seed % 3
    gains, losses = draw(languages, 11, seed)
    best = min(
        (losses - gains[:, chosen].sum(axis=1)).max()
        for chosen in itertools.combinations(range(11), k)
    )
    solved, _ = solve(gains, losses, k)
    assert solved.bound <= best + 1e-9
    assert solved.worst >= best - 1e-9
    # What the relaxation gains by splitting weights is at most one weight per language.
    assert solved.worst - solved.bound <= languages * gains.max()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_returned_belongs_together(seed):
    gains, losses = draw(4, 200, seed)
    solved, calls = solve(gains, losses, 30)
    for multipliers in (*calls, solved.multipliers, solved.bound_multipliers):
        assert np.isclose(multipliers.sum(), 1)
        assert (multipliers >= 0).all()
    residuals = losses - gains[:, top(gains, solved.multipliers, 30)].sum(axis=1)
    np.testing.assert_array_equal(solved.residuals, residuals)
    assert solved.worst == residuals.max()
    proof = losses - gains[:, top(gains, solved.bound_multipliers, 30)].sum(axis=1)
    assert np.isclose(solved.bound, solved.bound_multipliers @ proof)
    worst = [(losses - gains[:, top(gains, m, 30)].sum(axis=1)).max() for m in calls]
    assert solved.worst == min(worst)


def test_one_language_is_a_plain_top_k():
    gains, losses = draw(1, 50, 0)
    solved, calls = solve(gains, losses, 7)
    want = losses[0] - np.sort(gains[0])[-7:].sum()
    assert np.isclose(solved.worst, want)
    assert np.isclose(solved.bound, want)
    assert len(calls) == 1


def test_a_language_that_nothing_helps_is_found_out():
    """Its residual is the optimum, whatever is chosen for the others."""
    gains, losses = draw(3, 100, 0)
    gains[1], losses[1] = 0.0, 2 * losses.sum()
    solved, _ = solve(gains, losses, 10)
    assert solved.worst == losses[1]
    assert solved.bound >= 0.99 * losses[1]


def test_it_beats_equal_multipliers_where_languages_compete():
    gains = np.array([[3.0, 3, 3, 3, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])
    losses = np.array([12.0, 12.0])
    solved, calls = solve(gains, losses, 5)
    assert (losses - gains[:, top(gains, calls[0], 5)].sum(axis=1)).max() == 11
    assert solved.worst == 9  # with one or two of the first
    assert solved.passes > 1


def test_it_stops_at_the_number_of_passes():
    gains, losses = draw(6, 300, 3)
    solved, calls = solve(gains, losses, 20, tolerance=0.0, max_passes=3)
    assert solved.passes == len(calls) == 3


def test_the_start_need_not_sum_to_one():
    gains, losses = draw(3, 100, 1)
    seen = []

    def oracle(multipliers):
        seen.append(multipliers)
        return losses - gains[:, top(gains, multipliers, 10)].sum(axis=1)

    solve_minimax(oracle, np.array([2.0, 0.0, 6.0]))
    np.testing.assert_allclose(seen[0], [0.25, 0.0, 0.75])


def simplex(generator, count, languages):
    return generator.dirichlet(np.full(languages, 0.5), count)


@pytest.mark.parametrize("seed", range(20))
def test_projection_is_the_nearest_point_that_the_cuts_allow(seed):
    generator = np.random.default_rng(seed)
    languages = int(generator.integers(2, 7))
    cuts = generator.normal(1.0, 1.0, (int(generator.integers(1, 9)), languages))
    centre = simplex(generator, 1, languages)[0]
    promise = _promise(cuts)
    level = (cuts @ centre).min() + 0.4 * (promise - (cuts @ centre).min())
    point = _project(centre, cuts, level)
    assert np.isclose(point.sum(), 1)
    assert (point >= 0).all()
    assert (cuts @ point >= level - 1e-7).all()
    others = simplex(generator, 5000, languages)
    best = others[(others @ cuts.T).min(axis=1).argmax()]
    others = np.concatenate([others, best + 0.1 * (others - best), best[None]])
    allowed = others[(others @ cuts.T >= level).all(axis=1)]
    assert len(allowed)
    # Nearest in a convex set: seen from it, nothing allowed lies on the centre's side.
    assert ((allowed - point) @ (centre - point) <= 1e-7).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_projection_does_not_depend_on_units(scale):
    generator = np.random.default_rng(0)
    cuts, centre = generator.normal(size=(4, 3)), np.array([0.2, 0.5, 0.3])
    level = (cuts @ centre).min() + 0.4 * (_promise(cuts) - (cuts @ centre).min())
    one = _project(centre, cuts, level)
    np.testing.assert_allclose(_project(centre, scale * cuts, scale * level), one, atol=1e-9)


def test_a_centre_that_is_allowed_stays():
    centre = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(_project(centre, np.ones((2, 3)), 0.5), centre)


def test_the_promise_is_the_best_of_the_lowest_cut():
    assert np.isclose(_promise(np.array([[1.0, 0.0], [0.0, 1.0]])), 0.5)
    assert np.isclose(_promise(np.array([[3.0, -1.0]])), 3.0)
    assert _promise(np.zeros((1, 2))) == 0
