"""The bootstrap against theory, and its laws."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from jaxprotect.errors import InputError
from jaxprotect.evaluation.bootstrap import (
    MOST_DRAWS,
    Estimate,
    bootstrap_counts,
    expanded_share,
    lower_bound,
    percentile_interval,
    resampled_sums,
    simultaneous_interval,
    simultaneous_upper,
    upper_bound,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_counts_are_draws_with_replacement():
    counts = np.concatenate(list(bootstrap_counts(50, draws=4000, seed=3)))
    assert counts.shape == (4000, 50)
    assert counts.dtype == np.float64
    assert (counts.sum(axis=1) == 50).all()
    # Multinomial(50, 1/50): mean 1, variance 1 - 1/50, covariance -1/50.
    assert abs(counts.mean() - 1) < 1e-12
    assert np.allclose(counts.var(axis=0), 0.98, atol=0.12)
    covariance = np.cov(counts.T)[np.triu_indices(50, 1)]
    assert abs(covariance.mean() + 0.02) < 0.005


def test_counts_are_the_same_for_a_seed_whatever_the_block_and_the_number_of_draws():
    whole = np.concatenate(list(bootstrap_counts(7, draws=100, seed=5, block=100)))
    for block in (1, 3, 64, 1000):
        blocks = list(bootstrap_counts(7, draws=100, seed=5, block=block))
        assert max(map(len, blocks)) <= block
        assert np.array_equal(np.concatenate(blocks), whole)
    shorter = np.concatenate(list(bootstrap_counts(7, draws=40, seed=5)))
    assert np.array_equal(shorter, whole[:40])
    other = np.concatenate(list(bootstrap_counts(7, draws=100, seed=6)))
    assert not np.array_equal(other, whole)


def test_resampled_sums_are_counts_times_values():
    values = normal(9, 4)
    counts = np.concatenate(list(bootstrap_counts(9, draws=30, seed=1)))
    assert np.allclose(resampled_sums(values, draws=30, seed=1, block=7), counts @ values)
    ones = resampled_sums(np.ones((9, 2)), draws=30)
    assert (ones == 9).all()


def test_a_variant_does_not_depend_on_the_others_in_its_batch():
    values = normal(5, 40, 3)
    together = resampled_sums(values, draws=300)
    assert together.shape == (5, 300, 3)
    for index in range(5):
        assert np.array_equal(together[index], resampled_sums(values[index], draws=300))


def test_the_interval_of_a_mean_is_the_normal_one():
    values = normal(400, 1)
    samples = resampled_sums(values, draws=8000)[:, 0] / 400
    low, high = percentile_interval(samples)
    half = 1.96 * values.std() / math.sqrt(400)
    assert abs(low - (values.mean() - half)) < 0.06 * half
    assert abs(high - (values.mean() + half)) < 0.06 * half


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        values = np.random.default_rng(trial).gamma(2.0, size=(60, 1))
        samples = resampled_sums(values, draws=400, seed=trial)[:, 0] / 60
        low, high = percentile_interval(samples, 0.9)
        hits += low <= 2.0 <= high
    assert 0.82 <= hits / 200 <= 0.96


def test_percentiles_are_order_statistics():
    samples = np.random.default_rng(0).permutation(np.arange(101.0))
    assert percentile_interval(samples, 0.9) == (5.0, 95.0)
    assert lower_bound(samples, 0.9) == 10.0
    assert upper_bound(samples, 0.9) == 90.0
    low, high = percentile_interval(samples, 0.9)
    assert percentile_interval(-samples, 0.9) == (-high, -low)
    # A few infinite draws neither spoil nor move the interval.
    assert percentile_interval(np.where(samples > 97, np.inf, samples), 0.9) == (5.0, 95.0)


def test_higher_levels_give_wider_intervals():
    samples = normal(2000, 3)
    narrow_low, narrow_high = percentile_interval(samples, 0.8)
    wide_low, wide_high = percentile_interval(samples, 0.99)
    assert (wide_low < narrow_low).all()
    assert (narrow_high < wide_high).all()
    assert (upper_bound(samples, 0.9) < upper_bound(samples, 0.99)).all()
    assert (lower_bound(samples, 0.9) > lower_bound(samples, 0.99)).all()


def test_simultaneous_bounds_of_independent_normals_are_sidaks():
    values = np.zeros(10)
    scales = np.arange(1.0, 11.0)
    samples = normal(20_000, 10) * scales
    upper = simultaneous_upper(values, samples, 0.95)
    sidak = 2.568  # the normal quantile of 0.95 ** (1 / 10)
    assert np.allclose(upper / scales, sidak, atol=0.12)
    # One column alone needs no more than its own bound.
    alone = simultaneous_upper(values[:1], samples[:, :1], 0.95)
    assert abs(alone[0] - 1.645) < 0.06


def test_simultaneous_bounds_hold_where_percentiles_of_the_maximum_do_not():
    simultaneous, percentile = 0, 0
    for trial in range(60):
        values = np.random.default_rng(trial).normal(size=(50, 8))
        samples = resampled_sums(values, draws=400, seed=trial) / 50
        low, high = simultaneous_interval(values.mean(axis=0), samples, 0.9)
        simultaneous += low.max() <= 0 <= high.max()
        low, high = percentile_interval(samples.max(axis=1), 0.9)
        percentile += low <= 0 <= high
    assert simultaneous >= 50
    assert percentile <= 40


def test_simultaneous_bounds_follow_scale_and_sign():
    values = normal(6)
    samples = values + normal(500, 6, seed=1)
    low, high = simultaneous_interval(values, samples)
    assert (low < values).all()
    assert (values < high).all()
    scale = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    scaled_low, scaled_high = simultaneous_interval(values * scale, samples * scale)
    assert np.allclose(scaled_low, low * scale)
    assert np.allclose(scaled_high, high * scale)
    mirrored_low, mirrored_high = simultaneous_interval(-values, -samples)
    assert np.array_equal(mirrored_low, -high)
    assert np.array_equal(mirrored_high, -low)


def test_columns_that_do_not_vary_are_bounded_by_their_value():
    samples = np.concatenate([np.full((300, 1), 2.0), normal(300, 1)], axis=1)
    low, high = simultaneous_interval(np.array([2.0, 0.0]), samples)
    assert (low[0], high[0]) == (2.0, 2.0)
    assert low[1] < 0 < high[1]
    constant = np.full((300, 2), 2.0)
    assert simultaneous_upper(np.array([2.0, 2.0]), constant).tolist() == [2.0, 2.0]


def test_expanded_shares_are_students():
    # Hesterberg 2015: half a 95 % interval of 40 leaves 2.03 % out, and of many 2.5 %.
    z = norm.isf(expanded_share(0.025, 40))
    assert math.isclose(z, t.isf(0.025, 39) * math.sqrt(40 / 39), rel_tol=1e-9)
    assert round(expanded_share(0.025, 40), 4) == 0.0203
    assert math.isclose(expanded_share(0.025, 10**6), 0.025, rel_tol=1e-4)
    assert expanded_share(0.025, 1) == 0
    shares = [expanded_share(0.025, sentences) for sentences in (2, 5, 20, 100, 1000)]
    assert shares == sorted(shares)


def test_few_sentences_widen_every_interval_as_student_says():
    samples = normal(40_000, 6, seed=2)
    wider = t.isf(0.025, 39) * math.sqrt(40 / 39) / norm.isf(0.025)
    plain, expanded = percentile_interval(samples), percentile_interval(samples, sentences=40)
    for end in (0, 1):
        assert np.allclose(expanded[end] / plain[end], wider, atol=0.02)
    # Six independent columns at once: Sidak's level, widened as Student says of that level.
    sidak = 1 - 0.975 ** (1 / 6)
    wider = t.isf(sidak, 39) * math.sqrt(40 / 39) / norm.isf(sidak)
    plain = simultaneous_interval(np.zeros(6), samples)
    expanded = simultaneous_interval(np.zeros(6), samples, sentences=40)
    for end in (0, 1):
        assert np.allclose(expanded[end] / plain[end], wider, atol=0.03)
    # Columns that are one and the same need no more than one of them.
    same = np.repeat(samples[:, :1], 6, axis=1)
    low, high = simultaneous_interval(np.zeros(6), same, sentences=40)
    own_low, own_high = percentile_interval(samples[:, 0], sentences=40)
    assert np.allclose(high, own_high, rtol=0.02)
    assert np.allclose(low, own_low, rtol=0.02)


def test_an_upper_bound_of_skewed_sums_is_further_away_than_their_draws_say():
    values = np.random.default_rng(0).lognormal(0, 1, size=(40, 1))
    samples = resampled_sums(values, draws=20_000)
    total = values.sum(axis=0)
    skewed = simultaneous_upper(total, samples, sentences=40)
    symmetric = simultaneous_upper(total, 2 * total - samples[:, ::-1], sentences=40)
    plain = upper_bound(samples, sentences=40)
    a = ((values - values.mean()) ** 3).mean() / values.std() ** 3 / math.sqrt(40) / 6
    assert (skewed > plain).all()
    further = (skewed - plain) / (values.std() * math.sqrt(40))
    c = norm.isf(expanded_share(0.05, 40))
    assert abs(further[0] / (a * (c**2 + 2)) - 1) < 0.35
    # Left-skewed draws do not draw the bound nearer.
    assert np.allclose(symmetric, upper_bound(2 * total - samples, sentences=40), rtol=0.01)


def test_an_estimate_as_a_row():
    assert Estimate(value=1.0, low=0.5, high=2.0).to_row("gap") == {
        "gap": 1.0,
        "gap_low": 0.5,
        "gap_high": 2.0,
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_counts(0), "`sentences` is 0"),
        (lambda: bootstrap_counts(5, draws=0), "`draws` is 0"),
        (lambda: bootstrap_counts(5, seed=-1), "`seed` is -1"),
        (lambda: percentile_interval(np.zeros(39)), "`draws` is 39; level 0.95 needs at least 40"),
        (lambda: upper_bound(np.zeros(19)), "`draws` is 19; level 0.95 needs at least 20"),
        (lambda: percentile_interval(np.zeros(90), 1.0), "`level` is 1.0"),
        (lambda: lower_bound(np.zeros(90), 0.0), "`level` is 0.0"),
        (lambda: upper_bound(np.array([np.nan] * 90)), "`samples` has NaN"),
        (lambda: simultaneous_upper(np.zeros(2), np.zeros((9, 2))), "`draws` is 9"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_more_draws_than_memory_is_meant_for_are_refused():
    with pytest.raises(InputError, match="`draws` is 1000001; allowed: 1 to 1000000"):
        bootstrap_counts(5, draws=MOST_DRAWS + 1)
