"""Everything undone is 1, nothing undone is 0, and adaptation is no recovery."""

from dataclasses import replace

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.disparity import compare
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.recovery import recovery

GENERATOR = np.random.default_rng(0)
SENTENCES = 30
SIZES = {name: np.full(SENTENCES, 9) for name in ("a", "b")}
BASE = Evaluation(
    nats={name: GENERATOR.uniform(20, 60, SENTENCES) for name in ("a", "b")},
    tokens=SIZES,
    bytes=SIZES,
    characters=SIZES,
    ids=tuple(range(SENTENCES)),
    vocab_size=50,
)


def moved(evaluation, **means):
    """Nats moved by about so many per sentence in each language."""
    nats = {
        name: of + means[name] * GENERATOR.uniform(0.5, 1.5, SENTENCES)
        for name, of in evaluation.nats.items()
    }
    return replace(evaluation, nats=nats)


DAMAGED = moved(BASE, a=4.0, b=1.0)
TREATED = moved(DAMAGED, a=-2.0, b=-0.9)
CONTROL = moved(BASE, a=-1.0, b=-0.5)


def test_all_and_nothing():
    whole = recovery(BASE, DAMAGED, BASE, draws=200)
    nothing = recovery(BASE, DAMAGED, DAMAGED, draws=200)
    for name in BASE.nats:
        lost = float((DAMAGED.nats[name] - BASE.nats[name]).mean())
        assert whole[name].nats.value == pytest.approx(lost)
        share = whole[name].share
        assert (share.value, share.low, share.high) == (1.0, 1.0, 1.0)
        assert nothing[name].nats.to_row("x") == {"x": 0.0, "x_low": 0.0, "x_high": 0.0}
        assert nothing[name].share.value == 0


def test_a_treatment_that_helps_the_original_as_much_recovers_nothing():
    treated = replace(
        BASE,
        nats={n: DAMAGED.nats[n] + CONTROL.nats[n] - BASE.nats[n] for n in BASE.nats},
    )
    gross, net = (recovery(BASE, DAMAGED, treated, c, draws=200) for c in (None, CONTROL))
    for name in BASE.nats:
        assert gross[name].nats.low > 0
        assert net[name].nats.value == pytest.approx(0, abs=1e-12)
        assert net[name].share.value == pytest.approx(0, abs=1e-12)


def test_without_a_control_it_is_minus_the_paired_difference():
    differences = compare(BASE, DAMAGED, TREATED, draws=300)
    found = recovery(BASE, DAMAGED, TREATED, draws=300)
    for name, difference in differences.damage.items():
        nats = found[name].nats
        ends = (-difference.value, -difference.high, -difference.low)
        assert (nats.value, nats.low, nats.high) == pytest.approx(ends)


def test_the_interval_of_the_share_is_that_of_the_ratio_in_each_draw():
    share = recovery(BASE, DAMAGED, TREATED, CONTROL, draws=2000)["a"].share
    ratios = []
    generator = np.random.default_rng(9)
    lost = DAMAGED.nats["a"] - BASE.nats["a"]
    undone = lost - TREATED.nats["a"] + CONTROL.nats["a"]
    for _ in range(2000):
        taken = generator.integers(SENTENCES, size=SENTENCES)
        ratios.append(undone[taken].sum() / lost[taken].sum())
    assert share.value == pytest.approx(undone.sum() / lost.sum())
    low, high = np.quantile(ratios, (0.025, 0.975))
    assert share.low == pytest.approx(low, abs=0.02)
    assert share.high == pytest.approx(high, abs=0.02)


def test_no_share_of_a_damage_that_may_be_none():
    unclear = moved(BASE, a=4.0, b=0.0)
    found = recovery(BASE, unclear, TREATED, draws=200)
    assert found["a"].share.value is not None
    assert found["b"].share.value is None
    assert "cannot be told from 0" in found["b"].share.reason
    assert found["b"].nats.low is not None


def test_one_sentence_has_no_interval():
    size = {name: np.full(1, 9) for name in ("a", "b")}
    one = [
        Evaluation(
            nats={name: nats[:1] for name, nats in of.nats.items()},
            tokens=size,
            bytes=size,
            characters=size,
            ids=(0,),
            vocab_size=50,
        )
        for of in (BASE, DAMAGED, TREATED)
    ]
    found = recovery(*one)["a"]
    assert found.nats.value == pytest.approx(float(DAMAGED.nats["a"][0] - TREATED.nats["a"][0]))
    assert found.nats.low is None
    assert found.share.reason == "one sentence has no interval"


@pytest.mark.parametrize("which", [1, 2, 3])
def test_other_sentences_are_refused_by_name(which):
    evaluations = [BASE, DAMAGED, TREATED, CONTROL]
    evaluations[which] = replace(evaluations[which], ids=tuple(range(1, SENTENCES + 1)))
    name = ("base", "damaged", "treated", "control")[which]
    with pytest.raises(InputError, match=f"`{name}` has {SENTENCES} sentences"):
        recovery(*evaluations)
