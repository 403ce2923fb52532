"""Chosen prefixes are the best of what was tried; learned ones are better than where they began."""

import itertools
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.model import Model
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.prefix import round_prefix
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.prefix_choice import choose_prefix, frequent_tokens, pivot_tokens
from jaxprotect.selection.prefix_learning import PrefixLearning, learn_prefix
from tests.evaluation.test_encoding import BOS, CONFIG, LETTERS, byte_tokenizer, random_params

PARAMS = random_params(0)
QUANTIZED = quantize_leaves(PARAMS, masks.none(PARAMS), QuantSpec(bits=2), CONFIG)
MODEL = Model(config=CONFIG, params=PARAMS, tokenizer=byte_tokenizer(), name="tiny")
ENCODED = encode(MODEL, LETTERS, prefix_tokens=4)
BASE = evaluate_encoded(PARAMS, ENCODED, CONFIG)
START = make_prefix(PARAMS, [BOS, 3], CONFIG)
OPTIONS = PrefixLearning(steps=30, batch_rows=4)


def damages(prefix, params=QUANTIZED):
    nats = evaluate_encoded(params, ENCODED, CONFIG, prefix).nats
    return {name: nats[name].sum() / of.sum() - 1 for name, of in BASE.nats.items()}


def mean_damage(prefix):
    return float(np.mean(list(damages(prefix).values())))


def choose(**changes):
    options = {"start": BOS, "candidates": (1, 2), "steps": 2, "objective": "mean"} | changes
    return choose_prefix(PARAMS, QUANTIZED, ENCODED, BASE, CONFIG, **options)


def learn(params=QUANTIZED, prefix=START, encoded=ENCODED, options=OPTIONS, weights=None):
    return learn_prefix(params, prefix, encoded, BASE, CONFIG, options=options, weights=weights)


# Candidates


def test_frequent_tokens_are_the_most_frequent():
    tokenizer = byte_tokenizer()
    counts = Counter(
        token
        for sentences in LETTERS.sentences.values()
        for sentence in sentences
        for token in tokenizer(sentence)["input_ids"]
    )
    expected = sorted(counts, key=lambda token: (-counts[token], token))
    assert frequent_tokens(ENCODED, 5) == tuple(expected[:5])
    assert frequent_tokens(ENCODED, 1000) == tuple(expected)


@pytest.mark.parametrize("rows", [1000, 100])
def test_pivot_tokens_have_the_largest_keys_after_the_start_token(rows, monkeypatch):
    monkeypatch.setattr("jaxprotect.selection.prefix_choice.ROWS_AT_ONCE", rows)
    norms = []
    for token in range(CONFIG.vocab_size):
        keys = make_prefix(PARAMS, [BOS, token], CONFIG).keys[:, 1]
        norms.append(float(jnp.linalg.norm(keys, axis=-1).mean()))
    expected = np.argsort(-np.array(norms), kind="stable")[:6]
    assert pivot_tokens(PARAMS, BOS, CONFIG, 6) == tuple(expected.tolist())


@pytest.mark.parametrize("count", [0, 259])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(InputError, match=f"`count` is {count}"):
        pivot_tokens(PARAMS, BOS, CONFIG, count)
    if not count:
        with pytest.raises(InputError, match="`count` is 0"):
            frequent_tokens(ENCODED, count)


# Choice


@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_each_step_keeps_the_best_of_all_that_add_one_token(objective):
    path = choose(objective=objective)
    of = {"mean": np.mean, "worst": np.max}[objective]
    assert path[0].tokens == (BOS,)
    for before, after in itertools.pairwise(path):
        tried = {}
        for token in (1, 2):
            for tokens in ((*before.tokens, token), (token, *before.tokens)):
                prefix = round_prefix(make_prefix(PARAMS, tokens, CONFIG))
                tried[tokens] = of(list(damages(prefix).values()))
        assert after.objective == pytest.approx(min(tried.values()), rel=1e-6)
        assert tried[after.tokens] == pytest.approx(after.objective, rel=1e-6)
        assert of(list(after.damages.values())) == after.objective


def test_a_longer_choice_begins_with_a_shorter_one():
    assert choose(steps=1) == choose(steps=2)[:2]
    assert choose(candidates=(1, 2, 1, 2), steps=1) == choose(steps=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ()}, "`candidates` is empty"),
        ({"candidates": (258,)}, "`tokens` has the id 258"),
        ({"steps": -1}, "`steps` is -1"),
        ({"objective": "median"}, "`objective` is 'median'; allowed are mean, worst"),
        ({"steps": 4}, "`prefix` has 5 tokens; `encoded` has room for 4"),
    ],
)
def test_impossible_choices_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        choose(**changes)


# Learning


def test_learning_lowers_the_mean_relative_damage():
    learned = learn()
    assert mean_damage(learned) < mean_damage(round_prefix(START)) - 0.002
    assert learned.length == START.length
    assert learned.tokens == ()


def test_learned_prefixes_are_half_precision_numbers_and_the_same_every_time():
    learned, again = learn(), learn()
    for a, b in zip(jax.tree.leaves(learned), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, np.asarray(a, np.float16))
    other = learn(options=replace(OPTIONS, seed=1))
    assert not np.array_equal(other.keys, learned.keys)


def test_a_full_batch_of_one_step_goes_against_the_gradient():
    options = PrefixLearning(steps=1, batch_rows=1000, learning_rate=1e-3)
    learned = learn(options=options)

    def objective(prefix):
        total = 0.0
        for batch in ENCODED.batches:
            nats = jax.jit(sentence_nats, static_argnums=3)(
                QUANTIZED, batch.tokens, batch.scored, CONFIG, prefix
            )
            for i, name in enumerate(ENCODED.languages):
                total += jnp.where(batch.language == i, nats, 0.0).sum() / BASE.nats[name].sum()
        return total

    slope = jax.grad(objective)(replace(START, tokens=()))
    moved = np.asarray(learned.hidden - START.hidden)
    large = np.abs(slope.hidden) > 0.1 * np.abs(slope.hidden).max()
    np.testing.assert_array_equal(np.sign(moved[large]), -np.sign(slope.hidden[large]))


def test_a_language_of_weight_is_served_best():
    only = {name: learn(weights={"a": 0.0, "b": 0.0} | {name: 1.0}) for name in ("a", "b")}
    for name, other in (("a", "b"), ("b", "a")):
        assert damages(only[name])[name] < damages(only[other])[name]
    same, scaled = learn(weights={"a": 2.0, "b": 2.0}), learn()
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(scaled), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"c": 1.0}, "`weights` names c; allowed are a, b"),
        ({"a": -1.0}, "`weights` has -1.0 for a"),
        ({"a": float("nan")}, "`weights` has nan for a"),
        ({"a": 0.0, "b": 0.0}, "`weights` are all 0"),
    ],
)
def test_impossible_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        learn(weights=weights)


def test_texts_without_room_and_foreign_prefixes_are_refused():
    with pytest.raises(InputError, match="`prefix` has 2 tokens; `encoded` has room for 1"):
        learn(encoded=encode(MODEL, LETTERS, prefix_tokens=1))
    with pytest.raises(InputError, match="`prefix` has keys of shape"):
        learn_prefix(QUANTIZED, START, ENCODED, BASE, replace(CONFIG, layers=3))


def test_a_training_that_runs_away_is_refused():
    with pytest.raises(InputError, match="`prefix` has values that float16 cannot hold"):
        learn(options=replace(OPTIONS, steps=2, learning_rate=1e9))


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch_rows", 0), ("learning_rate", 0.0), ("seed", -1)],
)
def test_options_that_train_nothing_are_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}` is {value}"):
        PrefixLearning(**{name: value})
