"""Planning the number of sentences: laws of the formula, and bad input."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from jaxprotect import power_curve, sentences_needed
from jaxprotect.errors import InputError
from tests.trust.simulation import Population, evaluation


def pilot(sentences=400, seed=0, **of_population):
    population = Population(**of_population)
    nats, added = population.draw(np.random.default_rng(seed), sentences)
    base = evaluation(nats, population.languages)
    return base, evaluation(nats + added[0], population.languages)


def test_the_number_needed_is_where_the_curve_crosses():
    for size in ({"damage": 0.004}, {"disparity": 1.5, "reference": ["l00", "l01"]}):
        for name, count in sentences_needed(*pilot(), **size).items():
            below, at = power_curve(*pilot(), [count - 1, count], **size)[name]
            assert below < 0.8 <= at


def test_many_sentences_follow_the_square_root_law():
    base, quantized = pilot()
    varied = {}
    for name, nats in base.nats.items():
        added = quantized.nats[name] - nats
        varied[name] = ((added - added.sum() / nats.sum() * nats) / nats.mean()).std(ddof=1)
    needed = sentences_needed(base, quantized, damage=0.0005, power=0.9, level=0.99)
    for name, count in needed.items():
        expected = ((norm.isf(0.005) + norm.isf(0.1)) * varied[name] / 0.0005) ** 2
        assert count == pytest.approx(expected, rel=1e-3)


def test_half_the_damage_needs_four_times_the_sentences():
    base, quantized = pilot()
    whole, half = (sentences_needed(base, quantized, damage=d) for d in (0.002, 0.001))
    for name in whole:
        assert half[name] == pytest.approx(4 * whole[name], rel=0.02)


def test_more_is_easier_to_tell():
    curve = power_curve(*pilot(), [5, 20, 80, 320], damage=0.005)
    larger = power_curve(*pilot(), [5, 20, 80, 320], damage=0.01)
    for name, powers in curve.items():
        assert (np.diff(powers) > 0).all()
        assert (larger[name] > powers).all()


def test_a_disparity_is_of_languages_that_are_no_yardstick():
    curve = power_curve(*pilot(), [50], disparity=1.5, reference=["l00", "l02"])
    assert "l00" not in curve
    assert "l02" not in curve
    assert len(curve) == 6


def test_damages_that_do_not_vary_are_told_at_once():
    base, _ = pilot(20)
    risen = dataclasses.replace(base, nats={name: 1.5 * n for name, n in base.nats.items()})
    assert set(sentences_needed(base, risen, damage=0.01).values()) <= {2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of `damage` and `disparity`"),
        ({"damage": 0.1, "disparity": 2.0}, "exactly one of `damage` and `disparity`"),
        ({"damage": 0.0}, "`damage` is 0.0; it must be a number above 0"),
        ({"damage": math.nan}, "`damage` is nan"),
        ({"disparity": 1.0}, "`disparity` is 1.0; it must be a number above 1"),
        ({"disparity": 1.5}, "`reference` is needed"),
        ({"damage": 0.1, "power": 1.0}, "`power` is 1.0"),
        ({"damage": 0.1, "level": 95.0}, "`level` is 95.0"),
        ({"damage": 1e-9}, "more than 1000000000 sentences"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        sentences_needed(*pilot(40), **options)


def test_bad_pilots_and_sizes():
    base, quantized = pilot(40)
    better = dataclasses.replace(base, nats={name: 0.9 * n for name, n in base.nats.items()})
    with pytest.raises(InputError, match="`quantized` has a mean relative damage of -0"):
        sentences_needed(base, better, disparity=1.5, reference=["l00"])
    with pytest.raises(InputError, match="`base` has 1 sentence"):
        sentences_needed(*pilot(1), damage=0.1)
    with pytest.raises(InputError, match="`sentences` has 1; an interval needs at least 2"):
        power_curve(base, quantized, [40, 1], damage=0.1)
