"""No set that is enough is smaller than the bound, and the bound is close."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from jaxprotect.selection.size_bound import size_lower_bound


def draw(languages, weights, seed, share=0.5):
    """Gains in two leaves, and needs of about half of all that can be had."""
    generator = np.random.default_rng(seed)
    shared = generator.pareto(2.0, weights)
    own = generator.pareto(2.0, (languages, weights))
    matrix = (shared * generator.uniform(0.2, 1.0, (languages, 1)) + own).astype(np.float32)
    needs = share * generator.uniform(0.6, 1.2, languages) * matrix.sum(axis=1, dtype=np.float64)
    half = weights // 2
    return {"a": matrix[:, :half], "b": matrix[:, half:].reshape(languages, -1, 1)}, matrix, needs


def smallest_set(matrix, needs):
    weights = matrix.shape[1]
    exact = matrix.astype(np.float64)
    for size in range(weights + 1):
        for chosen in itertools.combinations(range(weights), size):
            if (exact[:, chosen].sum(axis=1) >= needs).all():
                return size
    raise AssertionError("not even all weights are enough")


def relaxed_size(matrix, needs):
    """min sum x s.t. gains x >= needs, 0 <= x <= 1."""
    solved = linprog(
        np.ones(matrix.shape[1]), A_ub=-matrix.astype(np.float64), b_ub=-needs, bounds=(0, 1)
    )
    return solved.fun


@pytest.mark.parametrize("seed", range(10))
def test_no_set_that_is_enough_is_smaller(seed):
    gains, matrix, needs = draw(2 + seed % 2, 8 + seed % 4, seed)
    smallest = smallest_set(matrix, needs)
    for start in (1, smallest, 8):
        bound, multipliers = size_lower_bound(gains, needs, start=start)
        assert 0 < bound <= smallest
        assert np.isclose(multipliers.sum(), 1)
        assert (multipliers >= 0).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("languages", [2, 4])
def test_it_comes_close_to_the_relaxed_optimum(languages, seed):
    gains, matrix, needs = draw(languages, 400, seed)
    optimum = relaxed_size(matrix, needs)
    bound, _ = size_lower_bound(gains, needs, start=200)
    assert optimum - 2 <= bound <= optimum + 1e-6
    assert 20 < bound < 380


def test_the_multipliers_prove_the_bound():
    gains, matrix, needs = draw(3, 200, 1)
    bound, multipliers = size_lower_bound(gains, needs, start=100)
    score = -np.sort(-(multipliers @ matrix.astype(np.float64)))
    below = int(np.floor(bound - 1e-3))
    assert score[:below].sum() < multipliers @ needs <= score[: below + 1].sum() * (1 + 1e-6)


@pytest.mark.parametrize("count", [1, 7, 11])
def test_one_language_needs_its_largest_gains(count):
    gains, matrix, _ = draw(1, 12, 0)
    need = np.sort(matrix[0].astype(np.float64))[-count:].sum()
    bound, _ = size_lower_bound(gains, np.array([need]), start=3)
    assert count - 1e-4 < bound <= count
    largest = matrix.max()
    bound, _ = size_lower_bound(gains, np.array([largest / 4]), start=3)
    assert np.isclose(bound, 0.25)


@pytest.mark.slow
def test_a_set_that_is_just_enough_is_not_called_too_small():
    """Rounding must not put the bound above it, not even by 1e-7."""
    for seed in range(40):
        gains, matrix, _ = draw(3, 12, seed)
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(12)[: generator.integers(1, 12)]
        needs = matrix[:, chosen].sum(axis=1, dtype=np.float64)
        assert size_lower_bound(gains, needs, start=len(chosen), rounds=2)[0] <= len(chosen)


def test_nothing_is_needed_where_all_needs_are_met():
    gains, _, needs = draw(3, 12, 0)
    assert size_lower_bound(gains, -needs, start=5)[0] == 0
    assert size_lower_bound(gains, 0 * needs, start=5)[0] == 0


def test_a_language_whose_need_is_met_asks_for_nothing():
    gains, matrix, needs = draw(2, 12, 0)
    needs[1] = -needs[1]
    alone, _ = size_lower_bound({"a": matrix[:1]}, needs[:1], start=5)
    bound, multipliers = size_lower_bound(gains, needs, start=5)
    assert np.isclose(bound, alone, rtol=0.01)
    assert bound <= alone * (1 + 1e-6)
    assert multipliers[0] > 0.9


@pytest.mark.parametrize("start", [1, 12])
def test_what_not_even_all_weights_reach_is_infinite(start):
    gains, matrix, needs = draw(3, 12, 0)
    needs[2] = 1.001 * matrix[2].sum()
    assert size_lower_bound(gains, needs, start=start)[0] == np.inf
    needs[2] = 0.999 * matrix[2].sum()
    assert 10 < size_lower_bound(gains, needs, start=start)[0] <= 12
