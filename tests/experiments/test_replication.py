"""The original study's data is consistent, and its table compares only what is the same."""

import json
import math
from collections import Counter

import pytest

from experiments.replication import Measured, replication_table, text_checksums
from experiments.study import BLOCK, DATA, Intervention, intervention, stored_results
from jaxprotect.errors import InputError
from jaxprotect.evaluation.texts import Texts

NONE = intervention("none")
WEIGHTS = {
    "qkv": 1_769_472,
    "attention_out": 589_824,
    "mlp_up": 2_359_296,
    "mlp_down": 2_359_296,
    "norm_attention": 768,
    "norm_mlp": 768,
    "final_norm": 768,
}
BIASES = {
    "qkv": 2304,
    "attention_out": 768,
    "mlp_up": 3072,
    "mlp_down": 768,
    "norm_attention": 768,
    "norm_mlp": 768,
    "final_norm": 768,
}
EMBEDDINGS = {
    "gpt2": {"token_embedding": 50257 * 768, "position_embedding": 1024 * 768},
    "facebook/opt-125m": {"token_embedding": 50272 * 768, "position_embedding": 2050 * 768},
}
TOTALS = {"gpt2": (124_337_664, 124_439_808), "facebook/opt-125m": (125_137_152, 125_239_296)}


def measured_like(stored, **changes):
    """Ours, as if it had reproduced a stored result to the digit."""
    return Measured(
        **{
            "intervention": stored.intervention,
            "ln_ppl_original": stored.ln_ppl_original,
            "ln_ppl_quantized": stored.ln_ppl_quantized,
            "texts": stored.texts,
            "count": stored.count,
            "eligible": stored.eligible,
            **changes,
        }
    )


def the(experiment, name="none", model="gpt2"):
    [stored] = [r for r in stored_results(model, experiment) if r.name == name]
    return stored


def test_the_data_is_compact_and_says_what_its_flags_mean():
    data = json.loads(DATA.read_text(encoding="utf-8"))
    assert DATA.stat().st_size < 100_000
    used = {flag for entry in data["entries"] for flag in entry.get("flags", ())}
    assert used == set(data["flags"])
    kinds = {entry.get("disparity_kind") for entry in data["entries"]} - {None}
    assert kinds == set(data["disparity_kinds"])
    named = {h for texts in data["text_sets"] for hashes in texts.values() for h in hashes}
    assert named == set(data["texts"])
    assert len(data["entries"]) == 189


def test_stored_results_by_model_and_experiment():
    assert len(stored_results(None)) == 189
    assert Counter(r.model for r in stored_results(None))["gpt2"] == len(stored_results())
    fractions = [r.intervention.fraction for r in stored_results(experiment="Exp-011b")]
    assert fractions == [0, 0.01, 0.02, 0.03, 0.04, 0.05]
    base = the("Exp-009")
    assert math.exp(base.ln_ppl_original["heb_Hebr"]) == pytest.approx(9.0983, abs=1e-4)
    assert math.exp(base.ln_ppl_quantized["arb_Arab"]) == pytest.approx(69026.80, abs=1e-2)


def test_counts_and_fractions_are_those_of_the_tensors_protected():
    checked = 0
    for stored in stored_results(None):
        if stored.model not in TOTALS or stored.intervention.fraction or stored.fraction is None:
            continue
        sizes = WEIGHTS | EMBEDDINGS[stored.model]
        with_biases = stored.eligible == "everything" or "count_includes_biases" in stored.flags
        count = sum(
            sizes[tensor] + (BIASES.get(tensor, 0) if with_biases else 0)
            for tensor, _ in stored.intervention.tensors
        )
        if stored.count is not None:
            assert stored.count == count, (stored.experiment, stored.name)
        weights, everything = TOTALS[stored.model]
        of_all = stored.eligible == "everything" or "of_all_parameters" in stored.flags
        total = everything if of_all else weights
        assert stored.fraction == pytest.approx(count / total, rel=1e-12), stored.name
        checked += 1
    assert checked > 150


def test_magnitude_counts_are_the_nominal_ones_and_their_ties():
    for stored in stored_results(None):
        if not stored.intervention.fraction or stored.count is None:
            continue
        nominal = math.floor(stored.intervention.fraction * TOTALS[stored.model][0])
        if "nominal_count" in stored.flags:
            assert stored.count == nominal
        else:
            # OPT's weights are in half precision, so that many are equal.
            most = 10 if stored.model == "gpt2" else nominal // 500
            assert 0 <= stored.count - nominal <= most


def test_the_same_intervention_on_the_same_texts_has_one_stored_value():
    values = {}
    for stored in stored_results(None):
        variant = (stored.model, stored.eligible, stored.intervention)
        for language, rise in stored.degradation_pct.items():
            key = (variant, language, stored.texts[language])
            assert values.setdefault(key, rise) == rise, stored.name
        key = (variant, stored.disparity_kind, tuple(sorted(stored.texts.items())))
        assert values.setdefault(key, stored.disparity) == stored.disparity, stored.name
    assert len(values) > 150


def test_losses_that_were_not_stored_follow_from_the_degradation():
    # Exp-025 stores degradations only; its texts are those of Exp-009.
    stored, base = the("Exp-025"), the("Exp-009")
    for language in ("eng_Latn", "heb_Hebr"):
        assert stored.ln_ppl_original[language] == base.ln_ppl_original[language]
        assert stored.ln_ppl_quantized[language] == pytest.approx(
            base.ln_ppl_quantized[language], abs=1e-6
        )
    overflowed = the("Exp-006", model="EleutherAI/pythia-160m")
    assert overflowed.degradation_pct["heb_Hebr"] == math.inf
    assert "heb_Hebr" not in overflowed.ln_ppl_quantized


def test_interventions_are_equal_when_they_protect_the_same():
    layer = intervention("layers", layers=[3])
    parts = intervention("components", components=["attention", "mlp", "norms"], layers=[3])
    assert layer == parts
    assert layer == intervention("components", components=BLOCK, layers=[3])
    assert layer != intervention("components", components=["attention", "mlp"], layers=[3])
    assert intervention("layers", layers=[1, 0]) == intervention(
        "union", of=[{"kind": "layers", "layers": [0]}, {"kind": "layers", "layers": [1]}]
    )
    both = intervention("components", components=["token_embedding", "position_embedding"])
    assert both == intervention("embeddings")
    assert intervention("magnitude", fraction=0.0) == NONE == Intervention()
    assert intervention("magnitude", fraction=0.1) != NONE
    norms = intervention("components", components=["norms"])
    assert len(norms.tensors) == 25
    assert ("final_norm", None) in norms.tensors


def test_a_reproduced_result_agrees():
    stored = the("Exp-022", "layer0")
    rows = replication_table([measured_like(stored)], experiment="Exp-022")
    assert [row["language"] for row in rows] == [*stored.texts, "all"]
    for row in rows[:-1]:
        assert row["texts"] == "same"
        assert row["ln_ppl_original_difference"] == 0
        assert row["ln_ppl_quantized_difference"] == 0
        assert row["agrees"] is True
    assert rows[-1]["disparity_kind"] == "R2"
    assert rows[-1]["disparity_ours"] == pytest.approx(rows[-1]["disparity_stored"], rel=1e-6)
    assert len({tuple(row) for row in rows}) == 1
    json.dumps(rows, allow_nan=False)


def test_every_stored_result_agrees_with_itself():
    for model in TOTALS:
        ours = {r.intervention: measured_like(r) for r in stored_results(model) if r.texts}
        rows = replication_table(ours.values(), model=model)
        assert not [row for row in rows if row["agrees"] is False]
        json.dumps(rows, allow_nan=False)
    rows = replication_table([measured_like(the("Exp-031", "l0_attn_qkv"))])
    assert {row["count_stored"] for row in rows} == {row["count_ours"] for row in rows}
    assert sum(row["agrees"] is True for row in rows) == 3


def test_a_difference_beyond_the_tolerance_disagrees():
    stored = the("Exp-022", "layer0")
    after = stored.ln_ppl_quantized | {
        "heb_Hebr": stored.ln_ppl_quantized["heb_Hebr"] + 0.02,
        "fra_Latn": stored.ln_ppl_quantized["fra_Latn"] - 0.005,
    }
    ours = measured_like(stored, ln_ppl_quantized=after)
    rows = {row["language"]: row for row in replication_table([ours], experiment="Exp-022")}
    assert rows["heb_Hebr"]["ln_ppl_quantized_difference"] == pytest.approx(0.02)
    assert rows["heb_Hebr"]["agrees"] is False
    assert rows["fra_Latn"]["agrees"] is True


def test_other_texts_are_never_compared():
    stored = the("Exp-022", "layer0")
    texts = stored.texts | {"zho_Hans": ("0" * 16,)}
    rows = replication_table([measured_like(stored, texts=texts)], experiment="Exp-022")
    by_language = {row["language"]: row for row in rows}
    assert by_language["zho_Hans"]["texts"] == "texts differ"
    assert by_language["zho_Hans"]["ln_ppl_quantized_difference"] is None
    assert by_language["zho_Hans"]["agrees"] is None
    assert by_language["heb_Hebr"]["agrees"] is True
    assert by_language["all"]["texts"] == "texts differ"


def test_other_weights_policies_and_languages_do_not_match():
    stored = the("Exp-026", "layer0")
    assert stored.eligible == "everything"
    rows = replication_table([measured_like(stored, eligible="weights")], experiment="Exp-026")
    assert rows == []
    first = intervention("layers", layers=[7])
    assert replication_table([measured_like(stored, intervention=first)]) == []
    stored = the("Exp-022", "layer0")
    english = {"eng_Latn": 1.0}
    ours = measured_like(stored, ln_ppl_original=english, ln_ppl_quantized=english)
    rows = replication_table([ours], experiment="Exp-022")
    assert [row["language"] for row in rows] == ["eng_Latn"]


def test_text_checksums_are_the_studys():
    fox = "The quick brown fox jumps over the lazy dog."
    texts = Texts(sentences={"eng_Latn": (fox,)}, ids=(1,), source="test")
    assert text_checksums(texts) == {"eng_Latn": the("Exp-009").texts["eng_Latn"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stored_results("gpt3"), "`model` is 'gpt3'; the study has gpt2, facebook/opt"),
        (lambda: stored_results(experiment="Exp-999"), "`experiment` is 'Exp-999'"),
        (lambda: replication_table([], model="gpt3"), "`model` is 'gpt3'"),
        (lambda: intervention("random"), "`kind` is 'random'; allowed are none, magnitude"),
        (lambda: intervention("magnitude", fraction=1.5), "`fraction` is 1.5"),
        (lambda: intervention("layers", layers=[12]), "`layers` has 12; the study's models have 0"),
        (lambda: intervention("components", components=["heads"]), "`components` has 'heads'"),
        (lambda: intervention("layers"), "`layers` names nothing"),
        (lambda: intervention("components"), "`components` names nothing"),
        (
            lambda: intervention("components", components=["final_norm"], layers=[0]),
            "`components` names nothing",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
