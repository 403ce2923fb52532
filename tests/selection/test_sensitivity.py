"""Statistics of one backward pass against per-sentence gradients and the exact Fisher matrix."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.batches import Batch
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.transformer import forward, hidden_states, unembed
from jaxprotect.selection.sensitivity import iterate_sensitivity, language_statistics
from jaxprotect.selection.statistics import add
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import CONFIGS, NAMES
from tests.tiny import random_params

CONTEXT = 12
LANGUAGES = ("eng_Latn", "heb_Hebr")


def encoded_of(rows: list[list[int]], languages: list[int]) -> Encoded:
    """Rows of token ids, the start token first, in one padded batch."""
    length = max(map(len, rows))
    tokens = np.zeros((len(rows), length), np.int32)
    scored = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        scored[i, 1 : len(row)] = True
    per = {language: len(rows) for language in LANGUAGES}
    sentences = [languages[:i].count(language) for i, language in enumerate(languages)]
    counts = {language: np.ones(n, np.int64) for language, n in per.items()}
    batch = Batch(
        tokens=tokens,
        scored=scored,
        language=np.array(languages, np.int32),
        sentence=np.array(sentences, np.int32),
    )
    return Encoded(
        batches=(batch,),
        languages=LANGUAGES,
        ids=tuple(range(1, len(rows) + 1)),
        tokens=counts,
        bytes=counts,
        characters=counts,
    )


# Few tokens, so that they come again in a row and in others: lookups and head meet.
ROWS = [[0, 3, 1, 3, 3, 7], [0, 5, 5], [0, 2, 9, 4, 1, 1, 8, 3, 10], [0, 6, 7, 6]]
OWNERS = [0, 1, 0, 1]
ENCODED = encoded_of(ROWS, OWNERS)


def model_of(name: str):
    config = replace(CONFIGS[name], context=CONTEXT)
    return random_params(config), config


def by_hand(params, config, rows):
    """Sums of g, |g| and g^2 with a backward pass for every sentence."""
    gradient = jax.jit(
        jax.grad(lambda tree, tokens, scored: sentence_nats(tree, tokens, scored, config).sum())
    )
    sums = None
    for row in rows:
        tokens = np.zeros((1, CONTEXT), np.int32)  # padded, so that one program does for all
        tokens[0, : len(row)] = row
        position = np.arange(CONTEXT)[None]
        g = gradient(params, tokens, (position > 0) & (position < len(row)))
        parts = (g, jax.tree.map(jnp.abs, g), jax.tree.map(jnp.square, g))
        sums = parts if sums is None else jax.tree.map(jnp.add, sums, parts)
    return sums


def assert_close(found: dict, expected: dict, tolerance: float = 2e-4) -> None:
    expected = leaf_paths(expected)
    largest = {path: float(jnp.abs(leaf).max()) for path, leaf in expected.items()}
    # Some gradients are 0 but for rounding: a bias of all keys changes no attention.
    least = 1e-3 * max(largest.values())
    for path, leaf in leaf_paths(found).items():
        scale = max(largest[path], least)
        np.testing.assert_allclose(
            leaf, expected[path], rtol=tolerance, atol=tolerance * scale, err_msg=path
        )


@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_sums_of_per_sentence_gradients(name):
    params, config = model_of(name)
    for index, language in enumerate(LANGUAGES):
        found = language_statistics(params, ENCODED, config, language=language)
        own = [row for row, owner in zip(ROWS, OWNERS, strict=True) if owner == index]
        for part, expected in zip(
            ("gradient", "absolute", "square"), by_hand(params, config, own), strict=True
        ):
            assert_close(getattr(found, part), expected)
        assert found.sentences == len(own)
        assert found.tokens == sum(len(row) - 1 for row in own)


@pytest.mark.parametrize("name", ["gpt2", pytest.param("neox", marks=pytest.mark.slow)])
def test_batches_and_padding_change_nothing_but_rounding(name):
    params, config = model_of(name)
    whole = language_statistics(params, ENCODED, config, language="eng_Latn")
    for labels in ("data", "model"):
        one, other = (
            language_statistics(
                params, ENCODED, config, language="eng_Latn", labels=labels, batch_tokens=size
            )
            for size in (8, 1024)
        )
        for part in ("gradient", "absolute", "square"):
            assert_close(getattr(one, part), getattr(other, part), 1e-5)
        for path, of in one.inputs.items():
            assert_close(vars(of), vars(other.inputs[path]), 1e-5)
    alone = language_statistics(
        params, encoded_of([ROWS[0], ROWS[2]], [0, 0]), config, language="eng_Latn"
    )
    assert_close(alone.square, whole.square, 1e-5)


def test_batches_of_a_large_model_change_nothing_but_rounding(monkeypatch):
    params, config = model_of("gpt2")
    loose = language_statistics(params, ENCODED, config)
    monkeypatch.setattr("jaxprotect.selection.sensitivity.TIGHT_FROM", 1)
    tight = language_statistics(params, ENCODED, config, batch_tokens=24)
    for part in ("gradient", "absolute", "square"):
        assert_close(getattr(tight, part), getattr(loose, part), 1e-5)


def test_all_languages_together_are_the_sum_of_each():
    params, config = model_of("gpt2")
    parts = dict(iterate_sensitivity(params, ENCODED, config))
    assert list(parts) == list(LANGUAGES)
    pooled = language_statistics(params, ENCODED, config)
    summed = add(*parts.values())
    assert_close(summed.square, pooled.square, 1e-5)
    assert_close(summed.gradient, pooled.gradient, 1e-4)
    assert (summed.sentences, summed.tokens) == (pooled.sentences, pooled.tokens)


@pytest.mark.parametrize("name", ["gpt2", pytest.param("opt", marks=pytest.mark.slow)])
def test_drawn_labels_give_the_models_own_fisher_matrix(name):
    """E over labels of g^2 is sum_t sum_v p_tv g_tv^2, the diagonal of the exact matrix."""
    params, config = model_of(name)
    row, draws = ROWS[0], 1500
    tokens = jnp.array([row[:-1]], jnp.int32)

    def log_probabilities(tree):
        return jax.nn.log_softmax(forward(tree, tokens, config)[0])

    jacobian = jax.jacrev(log_probabilities)(params)
    probability = jnp.exp(log_probabilities(params))
    exact = jax.tree.map(
        lambda leaf: jnp.einsum("tv,tv...->...", probability, jnp.square(leaf)), jacobian
    )
    copies = encoded_of([row] * draws, [0] * draws)
    found = language_statistics(params, copies, config, language="eng_Latn", labels="model")
    largest = max(float(leaf.max()) for leaf in jax.tree.leaves(exact))
    for path, leaf in leaf_paths(exact).items():
        if float(leaf.max()) < 1e-9 * largest:
            continue  # a bias of all keys: 0 but for rounding
        drawn = np.asarray(leaf_paths(found.square)[path]) / draws
        total = float(leaf.sum())
        assert drawn.sum() == pytest.approx(total, rel=0.1), path
        strong = np.asarray(leaf) > 0.05 * float(leaf.max())
        ratios = drawn[strong] / np.asarray(leaf)[strong]
        assert np.median(ratios) == pytest.approx(1, abs=0.1), path
    # Drawn from the model, gradients cancel: their mean is 0.
    mean = leaf_paths(found.gradient)["blocks/mlp/up/kernel"] / draws
    deviation = jnp.sqrt(leaf_paths(exact)["blocks/mlp/up/kernel"].sum() / draws)
    assert float(jnp.sqrt(jnp.square(mean).sum())) < 3 * float(deviation)


def test_drawn_labels_depend_on_the_seed_alone():
    params, config = model_of("gpt2")
    options = {"language": "eng_Latn", "labels": "model"}
    first, again, other = (
        language_statistics(params, ENCODED, config, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert_close(first.square, again.square, 0.0)
    path = "blocks/mlp/up/kernel"
    assert not np.allclose(leaf_paths(first.square)[path], leaf_paths(other.square)[path])


@pytest.mark.parametrize("name", ["gpt2", "neox"])
def test_what_the_head_reads_and_says(name):
    params, config = model_of(name)
    found = language_statistics(params, ENCODED, config, language="heb_Hebr")
    states = [
        np.asarray(hidden_states(params, jnp.array([ROWS[i][:-1]], jnp.int32), config))[0]
        for i in (1, 3)
    ]
    hidden = np.concatenate(states)
    logits = np.asarray(unembed(params, jnp.asarray(hidden), config))
    of = found.inputs["embed/tokens" if config.tied_head else "head/kernel"]
    np.testing.assert_allclose(of.absolute, np.abs(hidden).sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(of.square, np.square(hidden).sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(of.largest, np.abs(hidden).max(axis=0), rtol=1e-4)
    np.testing.assert_allclose(of.output_largest, np.abs(logits).max(axis=0), rtol=1e-4)
    assert float(of.positions) == len(hidden)


def test_bad_input_is_named():
    params, config = model_of("gpt2")
    with pytest.raises(InputError, match="`language` is 'xxx'; the texts have"):
        language_statistics(params, ENCODED, config, language="xxx")
    only_english = encoded_of(ROWS, [0] * 4)
    with pytest.raises(InputError, match="`encoded` has no sentence in heb_Hebr"):
        language_statistics(params, only_english, config, language="heb_Hebr")
    params["norm"]["scale"] = jnp.full_like(params["norm"]["scale"], jnp.nan)
    with pytest.raises(InputError, match="`params` give gradients that are not finite in eng_L"):
        language_statistics(params, ENCODED, config, language="eng_Latn")
