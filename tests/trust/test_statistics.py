"""What the package says of damages that are known: how often it is right, and how often wrong.

Where a share is held against a bound, two Monte Carlo standard errors are allowed for.
"""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from jaxprotect import power_curve, sentences_needed
from tests.trust.measures import coverage, power, rate, winners
from tests.trust.simulation import EQUAL, Population, evaluation, studies

BAND = (0.935, 0.965)


def within_band(of):
    return BAND[0] - 2 * of.error <= of.value <= BAND[1] + 2 * of.error


def test_the_true_damage_is_the_ratio_of_sums_and_not_the_mean_of_ratios():
    population = Population()
    nats, added = population.draw(np.random.default_rng(0), 500_000)
    assert np.allclose(nats.mean(axis=0), population.mean_nats, rtol=0.005)
    assert np.allclose(added[0].sum(axis=0) / nats.sum(axis=0), population.damages, atol=0.0003)
    of_ratios = (added[0] / nats).mean(axis=0)
    assert (of_ratios > 1.02 * np.array(population.damages)).all()


def test_the_made_up_texts_are_parallel_and_have_heavy_right_tails():
    nats, added = Population().draw(np.random.default_rng(0), 100_000)
    logs = np.corrcoef(np.log(nats).T)[np.triu_indices(8, 1)]
    assert np.allclose(logs, 0.85, atol=0.02)
    for values in (nats, added[0]):
        centred = values - values.mean(axis=0)
        assert ((centred**3).mean(axis=0) / centred.std(axis=0) ** 3 > 1).all()


def test_intervals_of_300_sentences_hold_as_often_as_they_say():
    found = coverage(Population(), 300, 500, draws=1000)
    for name in ("relative", "damage", "reference mean", "all at once", "upper bounds at once"):
        assert within_band(found[name]), (name, found[name])
    # These hold whichever language is the worst, and so more often.
    for name in ("worst relative", "worst damage", "gap", "ratio", "log ratio"):
        assert found[name].value >= BAND[0], name
    assert found["ratio undefined"].value == 0


def test_few_sentences_need_the_expansion():
    found = coverage(Population(), 40, 400, draws=1000)
    assert found["relative"].value > found["relative plain"].value + 0.005
    assert 0.925 <= found["relative"].value <= BAND[1]
    assert found["all at once"].value >= 0.89
    assert found["upper bounds at once"].value >= 0.89


def test_with_light_tails_40_sentences_are_enough():
    light = Population(tail=0.1, spread=0.2)
    found = coverage(light, 40, 400, draws=1000)
    for name in ("relative", "damage", "all at once", "upper bounds at once"):
        assert within_band(found[name]), (name, found[name])


@pytest.mark.parametrize("sentences", [40, 300])
def test_equal_languages_are_rarely_called_unequal(sentences):
    found = coverage(Population(damages=EQUAL), sentences, 250, draws=1000)
    for name in ("ratio above 1", "gap above 0"):
        assert found[name].value <= 0.05, name


def test_unequal_languages_are_called_so():
    found = coverage(Population(), 300, 50, draws=500)
    assert found["ratio above 1"].value == 1
    assert found["gap above 0"].value == 1


@pytest.mark.parametrize("reference", [0.0, 0.002])
def test_a_ratio_to_almost_nothing_is_undefined_or_wide(reference):
    population = Population(damages=(reference, *(0.02,) * 7), reference=1)
    if reference == 0:
        found = coverage_of_no_reference(population)
        # There is no true ratio: to give one at all is wrong.
        assert found.value <= 0.05
    else:
        found = coverage(population, 100, 200, draws=1000)
        assert found["ratio undefined"].value > 0.5
        assert found["ratio"].value >= 0.95


def coverage_of_no_reference(population):
    given = [s.result.ratio.value is not None for s in studies(population, 100, 200, draws=1000)]
    return rate([float(hit) for hit in given])


def test_the_best_of_50_alike_gains_nothing_on_other_sentences():
    found = winners(80, draws=500)
    gain = found["test gain"]
    assert abs(gain.value) <= 3 * gain.error
    assert within_band(found["test interval has 0"])
    assert within_band(found["test languages' intervals have 0"])
    # What it was chosen by says otherwise.
    chosen_by = found["tune gain"]
    assert chosen_by.value > 10 * chosen_by.error
    assert found["tune interval has 0"].value < 0.8


def test_the_planned_power_is_what_happens():
    light = Population(damages=(0.0, 0.002, 0.005, 0.01, 0.02), tail=0.1)
    for row in power(300, counts=(20, 40, 80), draws=1000, population=light):
        allowed = 0.02 + 3 * row["error"]
        assert abs(row["told"] - row["planned"]) <= allowed, row


def test_heavy_tails_leave_the_planned_power_on_the_safe_side():
    for row in power(300, counts=(20, 80), draws=1000):
        if row["damage"] > 0:
            assert row["told"] >= row["planned"] - 0.02 - 3 * row["error"], row
        else:
            assert row["told"] <= 0.05 + 3 * row["error"], row


def test_as_many_sentences_as_planned_find_a_disparity():
    unequal = Population(damages=(*(0.02,) * 7, 0.03))
    nats, added = unequal.draw(np.random.default_rng(0), 4000)
    base = evaluation(nats, unequal.languages)
    quantized = evaluation(nats + added[0], unequal.languages)
    reference = unequal.languages[:2]
    name = unequal.languages[-1]
    count = sentences_needed(base, quantized, disparity=1.5, reference=reference)[name]
    assert 40 < count < 400
    told = coverage(unequal, count, 250, draws=1000)["ratio above 1"]
    planned = power_curve(base, quantized, [count], disparity=1.5, reference=reference)[name][0]
    assert math.isclose(planned, 0.8, abs_tol=0.01)
    assert abs(told.value - planned) <= 0.1


def test_the_measurements_are_json_lines():
    command = [sys.executable, "-m", "tests.trust.measures", "--json", "--replications", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"unequal", "equal", "near 0", "winners"} <= {row.get("population") for row in rows}
    assert any("needed" in row for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("sentences", [300, 1000])
def test_intervals_hold_as_often_as_they_say_over_many_samples(sentences):
    found = coverage(Population(), sentences, 3000, draws=1500)
    for name in ("relative", "damage", "reference mean", "all at once", "upper bounds at once"):
        of = found[name]
        assert of.error <= 0.005
        assert BAND[0] <= of.value <= BAND[1], (name, of)


@pytest.mark.slow
def test_equal_languages_are_called_unequal_in_at_most_one_of_twenty_samples():
    for sentences in (40, 300):
        found = coverage(Population(damages=EQUAL), sentences, 1500, draws=1500)
        for name in ("ratio above 1", "gap above 0"):
            assert found[name].value + 2 * found[name].error <= 0.05, (sentences, name)


@pytest.mark.slow
def test_the_winner_of_50_gains_nothing_over_many_samples():
    found = winners(600, draws=1000)
    gain = found["test gain"]
    assert abs(gain.value) <= 2 * gain.error
    assert within_band(found["test languages' intervals have 0"])
    assert within_band(found["test interval has 0"])
    assert found["tune gain"].value > 20 * found["tune gain"].error
