"""The original study's metrics, on toys and on its own stored figures."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.seed import (
    STUDY_CODES,
    degradation,
    ln_perplexity,
    seed_metrics,
    seed_ratios,
)

STUDY = Path(__file__).parents[2] / "experiments" / "data" / "original_study.json"
LANGUAGES = {code: name for name, code in STUDY_CODES.items() if name != "cmn_Hans"}
SIX = ("eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans", "heb_Hebr", "arb_Arab")


def evaluation(ln_ppl, tokens=7):
    """One text per language with the given mean loss per token."""
    sizes = {name: np.array([tokens]) for name in ln_ppl}
    return Evaluation(
        nats={name: np.array([tokens * value]) for name, value in ln_ppl.items()},
        tokens=sizes,
        bytes=sizes,
        characters=sizes,
        ids=(1,),
        vocab_size=50257,
    )


def entries():
    return json.loads(STUDY.read_text(encoding="utf-8"))["entries"]


def test_metrics_of_six_languages():
    before = dict.fromkeys(SIX, 3.0)
    rises = dict(zip(SIX, (1.0, 2.0, 3.0, 40.0, 50.0, 60.0), strict=True))
    after = {name: 3.0 + math.log1p(rises[name]) for name in SIX}
    metrics = seed_metrics(evaluation(before), evaluation(after))
    assert metrics.ln_ppl_original == pytest.approx(before)
    assert metrics.degradation_pct == pytest.approx({n: 100 * r for n, r in rises.items()})
    assert metrics.ratios.r1 == pytest.approx(50 / 1)
    assert metrics.ratios.r2 == pytest.approx(50 / 2)
    assert metrics.ratios.r3 == pytest.approx((2 + 3 + 40 + 50 + 60) / 5)
    assert metrics.ratios.reasons == {}
    assert metrics.rows()[0]["ppl_original"] == pytest.approx(math.exp(3))
    assert metrics.summary()["seed_r2"] == metrics.ratios.r2


def test_every_text_weighs_the_same():
    base = Evaluation(
        nats={"eng_Latn": np.array([10.0, 60.0])},
        tokens={"eng_Latn": np.array([10, 20])},
        bytes={"eng_Latn": np.array([10, 20])},
        characters={"eng_Latn": np.array([10, 20])},
        ids=(1, 2),
        vocab_size=9,
    )
    assert ln_perplexity(base) == {"eng_Latn": 2.0}


def test_degradation_is_that_of_the_perplexities():
    assert degradation(2.0, 2.0) == 0
    assert degradation(2.0, 3.0) == pytest.approx((math.exp(3) - math.exp(2)) / math.exp(2) * 100)
    assert degradation(3.0, 2.0) < 0
    assert degradation(3.0, 3000.0) == math.inf


def test_identical_evaluations_have_no_ratio():
    base = evaluation(dict.fromkeys(SIX, 3.0))
    metrics = seed_metrics(base, base)
    assert set(metrics.degradation_pct.values()) == {0}
    assert (metrics.ratios.r1, metrics.ratios.r2, metrics.ratios.r3) == (None, None, None)
    assert "not above 0" in metrics.ratios.reasons["r1"]


def test_undefined_ratios_say_why():
    ratios = seed_ratios({"eng_Latn": 5.0, "kor_Hang": 20.0, "xyz_Latn": 30.0})
    assert ratios.r3 == 5.0
    assert (ratios.r1, ratios.r2) == (None, None)
    assert ratios.reasons == {
        "r1": "not evaluated: he",
        "r2": "not evaluated: zh, he, ar, de, fr",
    }
    assert seed_ratios({"eng_Latn": 5.0}).reasons["r3"] == "not evaluated: a language other than en"
    harmed = seed_ratios({"eng_Latn": -5.0, "heb_Hebr": 20.0})
    assert harmed.r1 is None
    assert harmed.reasons["r1"] == "the degradation of en is -5 %, not above 0"
    infinite = seed_ratios({"eng_Latn": 5.0, "heb_Hebr": math.inf})
    assert infinite.r1 is None
    assert "too large for a float in he" in infinite.reasons["r1"]
    assert seed_ratios({"eng_Latn": 5.0, "cmn_Hans": 10.0}).r3 == 2.0


def test_rows_are_plain_even_where_a_perplexity_overflows():
    base = evaluation({"eng_Latn": 3.0, "heb_Hebr": 3.0})
    metrics = seed_metrics(base, evaluation({"eng_Latn": 4.0, "heb_Hebr": 900.0}))
    json.dumps([metrics.rows(), metrics.summary()], allow_nan=False)
    assert metrics.rows()[1]["ppl_quantized"] is None
    assert metrics.rows()[1]["ln_ppl_quantized"] == pytest.approx(900)


def test_stored_degradations_follow_from_stored_perplexities():
    checked = 0
    for entry in entries():
        for code, quantized in entry.get("ppl_quantized", {}).items():
            stored = float(entry["degradation_pct"][code])
            before = math.log(entry["ppl_baseline"][code])
            # 1e-9 of the perplexity: a rise close to 0 loses digits to the difference.
            ours = degradation(before, math.log(float(quantized)))
            assert ours == stored or abs(ours - stored) <= 1e-9 * (abs(stored) + 100)
            checked += 1
    assert checked >= 50


def test_stored_ratios_follow_from_stored_degradations():
    checked = {"R1": 0, "R2": 0, "R3": 0, "R3 of he, ar": 0}
    for entry in entries():
        if "disparity" not in entry or "degradation_pct" not in entry:
            continue
        kind, stored = entry["disparity_kind"], entry["disparity"]
        chosen = ("en", "he", "ar") if kind == "R3 of he, ar" else entry["degradation_pct"]
        rises = {LANGUAGES[code]: float(entry["degradation_pct"][code]) for code in chosen}
        ours = getattr(seed_ratios(rises), kind[:2].lower())
        if stored == "inf":
            assert ours is None
        else:
            assert ours == pytest.approx(stored, rel=1e-9)
            checked[kind] += 1
    assert min(checked.values()) >= 4


def test_the_anchors_of_the_pangram():
    [entry] = [e for e in entries() if e["experiment"] == "Exp-009"]
    before, after = (
        {LANGUAGES[code]: math.log(ppl) for code, ppl in entry[key].items()}
        for key in ("ppl_baseline", "ppl_quantized")
    )
    metrics = seed_metrics(evaluation(before), evaluation(after))
    assert math.exp(metrics.ln_ppl_original["eng_Latn"]) == pytest.approx(162.4715, abs=1e-4)
    assert metrics.ratios.r1 == pytest.approx(213.8216, abs=1e-3)
    assert metrics.ratios.r2 == pytest.approx(78.1736, abs=1e-3)


def test_bad_input():
    base = evaluation({"eng_Latn": 3.0, "heb_Hebr": 3.0})
    with pytest.raises(InputError, match="differ in languages"):
        seed_metrics(base, evaluation({"eng_Latn": 3.0}))
    with pytest.raises(InputError, match="`quantized` has nan nats in heb_Hebr at sentence 1"):
        seed_metrics(base, evaluation({"eng_Latn": 3.0, "heb_Hebr": math.nan}))
    with pytest.raises(InputError, match="`base` has nan nats in heb_Hebr at sentence 1"):
        seed_metrics(evaluation({"eng_Latn": 3.0, "heb_Hebr": math.nan}), base)
    with pytest.raises(InputError, match="no scored tokens in eng_Latn at sentence 1"):
        ln_perplexity(evaluation({"eng_Latn": 3.0}, tokens=0))
    with pytest.raises(InputError, match="`evaluation` has no sentences"):
        ln_perplexity(dataclasses.replace(base, ids=()))
