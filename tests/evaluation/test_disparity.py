"""Damages and disparities: their laws, the undefined cases, and bad input."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation import disparity as module
from jaxprotect.evaluation.bootstrap import Estimate
from jaxprotect.evaluation.disparity import compare, disparity, disparity_table
from jaxprotect.evaluation.evaluation import Evaluation

LANGUAGES = ("eng_Latn", "fra_Latn", "heb_Hebr", "tam_Taml")
RISES = {"eng_Latn": 0.04, "fra_Latn": 0.06, "heb_Hebr": 0.10, "tam_Taml": 0.20}


def evaluation(nats, ids=None, vocab_size=1000):
    sentences = len(next(iter(nats.values())))
    sizes = {language: np.arange(10, 10 + sentences) for language in nats}
    return Evaluation(
        nats={language: np.asarray(values, np.float64) for language, values in nats.items()},
        tokens=sizes,
        bytes={language: 4 * values for language, values in sizes.items()},
        characters={language: 2 * values for language, values in sizes.items()},
        ids=tuple(range(1, sentences + 1)) if ids is None else tuple(ids),
        vocab_size=vocab_size,
    )


def original(sentences=60, seed=0):
    generator = np.random.default_rng(seed)
    return evaluation({name: generator.gamma(8, 5, sentences) + 5 for name in LANGUAGES})


def risen(base, rises, noise=0.3, seed=1):
    """Each sentence's nats risen by its language's share, give or take."""
    generator = np.random.default_rng(seed)
    nats = {
        name: values * (1 + rises[name] * (1 + noise * generator.normal(size=len(values))))
        for name, values in base.nats.items()
    }
    return dataclasses.replace(base, nats=nats)


def damage_of(result):
    return {name: record.damage.value for name, record in result.languages.items()}


def test_damages_are_the_definition():
    base = original()
    quantized = risen(base, RISES)
    result = disparity(base, quantized, draws=400)
    for name, record in result.languages.items():
        before, after = base.nats[name].sum(), quantized.nats[name].sum()
        assert np.isclose(record.damage.value, (after - before) / 60)
        assert np.isclose(record.relative.value, after / before - 1)
        assert np.isclose(record.nats_original, before / 60)
        assert np.isclose(record.nats_quantized, after / 60)
        total = base.bytes[name].sum()
        assert np.isclose(record.bits_per_byte_original, before / total / math.log(2))
        assert np.isclose(record.bits_per_byte_quantized, after / total / math.log(2))
        assert np.isclose(record.bits_per_character_quantized, 2 * record.bits_per_byte_quantized)
        assert np.isclose(record.bits_per_character_original, 2 * record.bits_per_byte_original)
        assert record.tokens_per_byte == 0.25
        assert np.isclose(record.nats_per_token, after / base.tokens[name].sum())
        assert record.damage.low < record.damage.value < record.damage.high
        assert record.relative.low < record.relative.value < record.relative.high
        assert record.relative.value < record.relative_upper
    relative = {name: record.relative.value for name, record in result.languages.items()}
    assert result.worst == "tam_Taml"
    assert result.worst_relative.value == relative["tam_Taml"]
    assert result.worst_absolute == max(damage_of(result), key=damage_of(result).__getitem__)
    assert result.worst_damage.value == max(damage_of(result).values())
    assert np.isclose(result.gap.value, relative["tam_Taml"] - relative["eng_Latn"])
    assert result.reference == ("eng_Latn", "fra_Latn")
    mean = (relative["eng_Latn"] + relative["fra_Latn"]) / 2
    assert np.isclose(result.reference_relative.value, mean)
    assert np.isclose(result.ratio.value, relative["tam_Taml"] / mean)
    assert np.isclose(result.abs_log_ratio.value, math.log(result.ratio.value))
    assert np.isclose(result.abs_log_ratio.high, math.log(result.ratio.high))
    for estimate in (result.worst_relative, result.worst_damage, result.gap, result.ratio):
        assert estimate.low < estimate.value < estimate.high
    assert result.destroyed == ()


def test_intervals_hold_the_true_rises():
    hits = 0
    for trial in range(40):
        base = original(seed=trial)
        quantized = risen(base, RISES, seed=100 + trial)
        result = disparity(base, quantized, draws=300, seed=trial)
        hits += result.ratio.low <= 0.20 / 0.05 <= result.ratio.high
    assert hits >= 36


def test_equal_languages_are_not_called_unequal():
    equal = dict.fromkeys(LANGUAGES, 0.1)
    hits = 0
    for trial in range(40):
        base = original(seed=trial)
        result = disparity(base, risen(base, equal, 0.8, seed=100 + trial), draws=300, seed=trial)
        hits += result.ratio.low == 1.0
        assert result.gap.low <= result.gap.value
    assert hits >= 36


def test_scaled_nats_scale_the_damages_and_keep_the_disparity():
    base = original()
    quantized = risen(base, RISES)

    def scaled(evaluation):
        nats = {name: 4.0 * values for name, values in evaluation.nats.items()}
        return dataclasses.replace(evaluation, nats=nats)

    one, four = (
        disparity(base, quantized, draws=300),
        disparity(scaled(base), scaled(quantized), draws=300),
    )
    for name in LANGUAGES:
        small, large = one.languages[name], four.languages[name]
        assert large.damage.value == 4 * small.damage.value
        assert (large.damage.low, large.damage.high) == (
            4 * small.damage.low,
            4 * small.damage.high,
        )
        assert large.relative == small.relative
    assert four.ratio == one.ratio
    assert four.gap == one.gap
    assert four.worst_damage.value == 4 * one.worst_damage.value


def test_the_order_of_sentences_changes_nothing():
    base = original()
    quantized = risen(base, RISES)
    order = np.random.default_rng(7).permutation(60)

    def shuffled(evaluation):
        of = {
            field: {name: values[order] for name, values in getattr(evaluation, field).items()}
            for field in ("nats", "tokens", "bytes", "characters")
        }
        return dataclasses.replace(
            evaluation, **of, ids=tuple(evaluation.ids[index] for index in order)
        )

    assert disparity(shuffled(base), shuffled(quantized), draws=300) == disparity(
        base, quantized, draws=300
    )


def test_the_names_and_the_order_of_languages_change_nothing_but_names():
    base = original()
    quantized = risen(base, RISES)
    names = dict(zip(LANGUAGES, ("deu_Latn", "kor_Hang", "pol_Latn", "tur_Latn"), strict=True))

    def renamed(evaluation):
        of = {
            field: {names[name]: values for name, values in getattr(evaluation, field).items()}
            for field in ("nats", "tokens", "bytes", "characters")
        }
        return dataclasses.replace(evaluation, **of)

    before = disparity(base, quantized, draws=300, reference=["eng_Latn"])
    after = disparity(renamed(base), renamed(quantized), draws=300)
    assert after.reference == ("deu_Latn",)
    assert after.worst == names[before.worst]
    assert after.ratio == before.ratio
    assert after.gap == before.gap
    assert after.worst_damage == before.worst_damage
    backwards = dataclasses.replace(base, nats=dict(reversed(base.nats.items())))
    turned = disparity(backwards, quantized, draws=300, reference=["eng_Latn"])
    assert turned == before


def test_identical_evaluations_have_no_damage_and_no_ratio():
    base = original()
    result = disparity(base, base, draws=300)
    for record in result.languages.values():
        assert (record.damage.value, record.damage.low, record.damage.high) == (0, 0, 0)
        assert (record.relative.value, record.relative_upper) == (0, 0)
        assert record.nats_original == record.nats_quantized
    assert (result.gap.value, result.gap.low, result.gap.high) == (0, 0, 0)
    assert result.ratio.value is None
    assert "includes 0" in result.ratio.reason
    assert result.abs_log_ratio.value is None


def test_the_ratio_is_undefined_where_the_reference_may_not_be_harmed():
    base = original()
    uncertain = risen(base, RISES | {"eng_Latn": 0.01}, noise=10)
    result = disparity(base, uncertain, draws=400, reference=["eng_Latn"])
    assert result.reference_relative.low < 0 < result.reference_relative.value
    assert result.ratio.value is None
    assert result.ratio.reason.startswith("undefined: the interval [")
    better = risen(base, RISES | {"eng_Latn": -0.05})
    result = disparity(base, better, draws=400, reference=["eng_Latn"])
    assert result.reference_relative.high < 0
    assert result.ratio.value is None
    assert "lies below 0" in result.ratio.reason
    # The absolute damage is there all the same.
    assert result.worst_relative.value > 0.15


def test_a_few_draws_without_a_denominator_leave_the_interval_finite():
    base = original(12)
    quantized = risen(base, RISES | {"eng_Latn": 0.02}, noise=1.1, seed=5)
    found = 0
    for seed in range(40):
        result = disparity(base, quantized, draws=200, reference=["eng_Latn"], seed=seed)
        if result.ratio.value is not None:
            assert 1 <= result.ratio.low <= result.ratio.value <= result.ratio.high < math.inf
            found += 1
    assert found


def test_draws_without_a_denominator_count_as_the_largest_ratios():
    generator = np.random.default_rng(0)
    relative = np.array([0.1, 0.4]) + 0.01 * generator.normal(size=(400, 2))
    denominator = Estimate(value=0.1, low=0.08, high=0.12)

    def ratio(lowest):
        few = relative.copy()
        few[:5, 0] = lowest
        return module._ratio(np.array([0.1, 0.4]), few, denominator, few[:, :1], 0.95)

    assert ratio(-0.01) == ratio(0.0) == ratio(1e-9)
    assert 4 < ratio(-0.01).high < math.inf


def test_a_ratio_without_an_upper_bound_is_undefined():
    generator = np.random.default_rng(0)
    relative = np.array([0.1, 0.4]) + 0.01 * generator.normal(size=(400, 2))
    relative[:30, 0] = -0.01
    ratio = module._ratio(
        np.array([0.1, 0.4]),
        relative,
        Estimate(value=0.1, low=0.001, high=0.12),
        relative[:, :1],
        0.95,
    )
    assert ratio.value is None
    assert ratio.high is None
    assert ratio.reason.startswith("undefined: the ratio has no upper bound")


def test_destroyed_means_worse_than_guessing_uniformly():
    tokens = np.arange(10, 70)
    base = evaluation(dict.fromkeys(LANGUAGES, tokens * 3.0), vocab_size=1000)
    nats = dict(base.nats)
    nats["heb_Hebr"] = tokens * (math.log(1000) + 0.01)
    nats["tam_Taml"] = tokens * (math.log(1000) - 0.01)
    result = disparity(base, dataclasses.replace(base, nats=nats), draws=300)
    assert result.destroyed == ("heb_Hebr",)
    assert result.languages["heb_Hebr"].destroyed
    assert not result.languages["tam_Taml"].destroyed


def test_one_sentence_has_numbers_but_no_interval():
    base = evaluation({name: [40.0] for name in LANGUAGES})
    quantized = risen(base, RISES, noise=0)
    result = disparity(base, quantized)
    assert np.isclose(result.worst_relative.value, 0.2)
    assert np.isclose(result.gap.value, 0.16)
    assert result.worst_relative.low is None
    assert "one sentence" in result.worst_relative.reason
    assert result.ratio.value is None
    assert "one sentence" in result.ratio.reason
    assert result.languages["heb_Hebr"].relative_upper is None
    assert "one sentence" in result.rows()[0]["interval_reason"]
    against = compare(base, quantized, base)
    assert np.isclose(against.worst_relative.value, -0.2)
    assert against.worst_relative.low is None


def test_a_table_is_its_variants_one_by_one(monkeypatch):
    base = original()
    variants = {f"v{i}": risen(base, RISES, seed=i) for i in range(5)}
    alone = {name: disparity(base, variant, draws=300) for name, variant in variants.items()}
    assert disparity_table(base, variants, draws=300) == alone
    # In groups of two, as when the sums of all would be too large.
    monkeypatch.setattr(module, "SUMS_AT_ONCE", 3 * 300 * 4)
    assert disparity_table(base, variants, draws=300) == alone
    assert disparity_table(base, {}, draws=300) == {}


def test_the_seed_changes_intervals_alone():
    base = original()
    quantized = risen(base, RISES)
    one, two = (disparity(base, quantized, draws=300, seed=seed) for seed in (0, 1))
    assert one.ratio.value == two.ratio.value
    assert damage_of(one) == damage_of(two)
    assert one.ratio.low != two.ratio.low
    assert disparity(base, quantized, draws=300, seed=0) == one


def test_pairing_finds_what_separate_intervals_cannot():
    base = original()
    first = risen(base, RISES, noise=2.0)
    nats = {name: values + 0.05 for name, values in first.nats.items()}
    second = dataclasses.replace(first, nats=nats)
    paired = compare(base, first, second, draws=400)
    for name in LANGUAGES:
        assert np.isclose(paired.damage[name].value, 0.05)
        assert paired.damage[name].low > 0
        assert paired.relative[name].low > 0
    assert paired.worst_damage.low > 0
    assert paired.worst_relative.low > 0
    one, two = (disparity(base, variant, draws=400) for variant in (first, second))
    assert one.worst_relative.high > two.worst_relative.low
    expected = two.worst_relative.value - one.worst_relative.value
    assert np.isclose(paired.worst_relative.value, expected)
    turned = compare(base, second, first, draws=400)
    assert turned.worst_relative.value == -paired.worst_relative.value
    assert turned.worst_relative.low == -paired.worst_relative.high
    same = compare(base, first, first, draws=400)
    assert (same.worst_relative.low, same.worst_relative.high) == (0, 0)


def test_rows_and_summaries_are_plain_data_with_the_same_keys():
    base = original()
    variants = {"same": base, "risen": risen(base, RISES)}
    table = disparity_table(base, variants, draws=300)
    summaries = [result.summary() for result in table.values()]
    rows = [row for result in table.values() for row in result.rows()]
    compared = compare(base, *variants.values(), draws=300)
    for lines in (summaries, rows, compared.rows(), [compared.summary()]):
        assert len({tuple(line) for line in lines}) == 1
        json.dumps(lines, allow_nan=False)
        values = [value for line in lines for value in line.values()]
        assert {type(value) for value in values} <= {str, int, float, bool, type(None)}
    assert [row["language"] for row in rows[:4]] == list(LANGUAGES)
    assert summaries[1]["reference_languages"] == "eng_Latn fra_Latn"
    assert summaries[1]["ratio"] == table["risen"].ratio.value
    assert summaries[0]["ratio"] is None
    assert summaries[0]["ratio_reason"].startswith("undefined")
    assert rows[0]["relative_low"] == table["same"].languages["eng_Latn"].relative.low


def without(evaluation, language):
    of = {
        field: {n: v for n, v in getattr(evaluation, field).items() if n != language}
        for field in ("nats", "tokens", "bytes", "characters")
    }
    return dataclasses.replace(evaluation, **of)


def with_nats(evaluation, language, index, value):
    nats = {name: values.copy() for name, values in evaluation.nats.items()}
    nats[language][index] = value
    return dataclasses.replace(evaluation, nats=nats)


def test_bad_variants():
    base = original(20)
    same_length = dataclasses.replace(base, ids=tuple(range(2, 22)))
    fewer_ids = dataclasses.replace(base, ids=base.ids[:-1])
    tokens = base.tokens | {"heb_Hebr": base.tokens["heb_Hebr"] + 1}
    cases = [
        (without(base, "heb_Hebr"), "`quantized` and `base` differ in languages.* heb_Hebr"),
        (same_length, "`quantized` has 20 sentences and `base` 20"),
        (fewer_ids, "`quantized` has 19 sentences and `base` 20"),
        (
            with_nats(base, "heb_Hebr", 4, math.nan),
            "`quantized` has nan nats in heb_Hebr at sen.* 5",
        ),
        (
            with_nats(base, "heb_Hebr", 4, math.inf),
            "`quantized` has inf nats in heb_Hebr at sen.* 5",
        ),
        (dataclasses.replace(base, tokens=tokens), "differ in scored tokens in heb_Hebr"),
        (dataclasses.replace(base, vocab_size=7), "`quantized` has a vocabulary of 7"),
    ]
    for variant, message in cases:
        with pytest.raises(InputError, match=message):
            disparity(base, variant, draws=300)
    with pytest.raises(InputError, match="`int4` has a vocabulary of 7"):
        disparity_table(base, {"int4": cases[-1][0]}, draws=300)
    with pytest.raises(InputError, match="`second` has a vocabulary of 7"):
        compare(base, base, cases[-1][0], draws=300)


def test_bad_originals():
    base = original(20)
    zeros = {name: np.zeros(20, int) for name in LANGUAGES}
    cases = [
        (with_nats(base, "heb_Hebr", 4, 0.0), "`base` has 0.0 nats in heb_Hebr at sentence 5"),
        (with_nats(base, "heb_Hebr", 4, math.nan), "`base` has nan nats in heb_Hebr at sentence 5"),
        (dataclasses.replace(base, bytes=zeros), "`base` has no bytes in eng_Latn"),
        (dataclasses.replace(base, ids=(1,) * 20), "`base` has the same sentence id"),
        (dataclasses.replace(base, ids=(1, 2)), "`base` has nats of shape .20,. in eng_Latn"),
        (dataclasses.replace(base, ids=()), "`base` is empty"),
        (dataclasses.replace(base, nats={}), "`base` is empty"),
    ]
    for bad, message in cases:
        with pytest.raises(InputError, match=message):
            disparity(bad, bad, draws=300)


def test_bad_options():
    base = original(20)
    cases = [
        ({"reference": ["eng_Latn", "zzz_Latn"]}, "`reference` names zzz_Latn; allowed are eng_L"),
        ({"reference": "eng_Latn"}, "`reference` is 'eng_Latn'; give a list"),
        ({"reference": []}, "`reference` is"),
        ({"draws": 0}, "`draws` is 0"),
        ({"draws": 20}, "`draws` is 20; level 0.95 needs at least 40"),
        ({"draws": 300, "level": 95.0}, "`level` is 95.0"),
        ({"draws": 300, "seed": -1}, "`seed` is -1"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            disparity(base, base, **options)
    others = without(without(base, "eng_Latn"), "fra_Latn")
    with pytest.raises(InputError, match="`reference` is needed: none of eng_Latn, deu_Latn"):
        disparity(others, others, draws=300)
    assert disparity(others, others, draws=300, reference=["heb_Hebr"]).reference == ("heb_Hebr",)
