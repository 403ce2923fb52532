"""Statistics of a masked model against a backward pass for every sentence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.evaluation.loss import masked_hidden, sentence_nats
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import PADDING, forward, unembed
from jaxprotect.selection import scores
from jaxprotect.selection.masked_statistics import copy_batches
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.selection.statistics import Statistics
from jaxprotect.trees import leaf_paths
from tests.masked import TOKENIZERS, masked_config
from tests.selection.test_sensitivity import assert_close
from tests.tiny import CONFIG, random_params

# Even numbers of tokens, which are batches of two: one program does for most tests.
SENTENCES = {
    "deu": ("das ist", "the über the", "is"),
    "zho": ("的的是。", "是的", "的的的 的"),
}
PAIRS = 30
TEXTS = Texts(sentences=SENTENCES, ids=(1, 2, 3), source="s")


def model_of(family: str = "bert") -> Model:
    config = masked_config(family, layers=1, context=14)
    return Model(
        config=config, params=random_params(config), tokenizer=TOKENIZERS[family](), name="tiny"
    )


def statistics_of(model: Model, texts: Texts = TEXTS, **options: Any) -> Statistics:
    options = {"batch_tokens": PAIRS} | options
    return language_statistics(model.params, encode(model, texts), model.config, **options)


def copies_of(model: Model, sentence: str) -> tuple[jax.Array, jax.Array]:
    """All masked copies of one sentence, padded to one shape for all sentences."""
    ids = model.tokenizer(sentence)["input_ids"]
    tokens, scored = np.full((12, 15), PADDING, np.int32), np.zeros((12, 15), bool)
    for row, at in enumerate(range(1, len(ids) - 1)):
        tokens[row, 1 : len(ids) + 1] = ids
        tokens[row, 0], tokens[row, at + 1] = ids[at], model.tokenizer.mask_token_id
        scored[row, at + 1] = True
    return jnp.asarray(tokens), jnp.asarray(scored)


@pytest.mark.parametrize("family", ["bert", pytest.param("xlm-roberta", marks=pytest.mark.slow)])
def test_they_are_the_sums_of_per_sentence_gradients(family):
    model = model_of(family)
    gradient = jax.jit(jax.grad(lambda *of: sentence_nats(*of, model.config).sum()))
    # The copies of a sentence are in several batches.
    found = statistics_of(model, language="deu")
    every = [gradient(model.params, *copies_of(model, text)) for text in SENTENCES["deu"]]
    for name, of in (("gradient", lambda g: g), ("absolute", jnp.abs), ("square", jnp.square)):
        expected = jax.tree.map(lambda *leaves, of=of: sum(map(of, leaves)), *every)
        assert_close(getattr(found, name), expected)
    assert found.sentences == 3
    assert found.tokens == sum(
        len(model.tokenizer(text)["input_ids"]) - 2 for text in SENTENCES["deu"]
    )


def test_batches_change_nothing_but_rounding():
    model = model_of()
    one, other = (statistics_of(model, language="deu", batch_tokens=n) for n in (PAIRS, 1024))
    for name in ("gradient", "absolute", "square"):
        assert_close(getattr(one, name), getattr(other, name), 1e-4)
    assert one.inputs.keys() == other.inputs.keys()
    for path, of in one.inputs.items():
        assert_close(vars(of), vars(other.inputs[path]), 1e-5)


def test_what_the_matrices_read_and_say():
    model = model_of()
    config, params = model.config, model.params
    found = statistics_of(model, language="zho")
    hidden, positions = [], 0
    for text in SENTENCES["zho"]:
        tokens, scored = copies_of(model, text)
        filled = np.asarray(scored.any(axis=1))
        hidden.append(np.asarray(masked_hidden(params, tokens, scored, config))[filled, 0])
        positions += int((np.asarray(tokens)[:, 1:] >= 0).sum())
    read = np.concatenate(hidden)
    said = np.asarray(unembed(params, jnp.asarray(read), config))
    of = found.inputs["embed/tokens"]
    np.testing.assert_allclose(of.absolute, np.abs(read).sum(0), rtol=1e-4)
    np.testing.assert_allclose(of.square, np.square(read).sum(0), rtol=1e-4)
    np.testing.assert_allclose(of.largest, np.abs(read).max(0), rtol=1e-4)
    np.testing.assert_allclose(of.output_largest, np.abs(said).max(0), rtol=1e-4)
    assert float(of.positions) == float(found.inputs["head/transform/kernel"].positions)
    assert float(of.positions) == len(read)
    assert float(found.inputs["blocks/attention/q/kernel"].positions) == positions


@pytest.mark.slow
def test_drawn_labels_give_the_models_own_fisher_matrix():
    """E over labels of (sum_t g_t)^2 is sum_t sum_v p_tv g_tv^2: labels are drawn on their own."""
    model = model_of()
    config, params = model.config, model.params
    draws = 300
    texts = Texts(sentences={"x": ("is",) * draws}, ids=tuple(range(draws)), source="s")
    found = statistics_of(model, texts, labels="model")
    tokens, scored = copies_of(model, "is")
    rows = [(tokens[i : i + 1], int(jnp.argmax(scored[i]))) for i in range(2)]

    def log_probabilities(bias):
        tree = params | {"head": params["head"] | {"bias": bias}}
        logits = [forward(tree, row[:, 1:], config)[0, column - 1] for row, column in rows]
        return jax.nn.log_softmax(jnp.stack(logits))

    bias = params["head"]["bias"]
    jacobian = jax.jacrev(log_probabilities)(bias)
    exact = jnp.einsum("tv,tvi->i", jnp.exp(log_probabilities(bias)), jnp.square(jacobian))
    drawn = np.asarray(found.square["head"]["bias"]) / draws
    assert drawn.sum() == pytest.approx(float(exact.sum()), rel=0.1)
    seeds = [
        next(copy_batches(encode(model, texts), "x", context=14, batch_tokens=99, seed=seed))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(seeds[0].uniform, seeds[1].uniform)
    assert (seeds[0].uniform[:2] != seeds[2].uniform[:2]).all()


@pytest.mark.parametrize("name", ["activation_aware", "wanda", "owq_columns", "fisher_delta"])
def test_criteria_have_scores_of_a_masked_model(name):
    model = model_of()
    pooled = statistics_of(model)
    delta = jax.tree.map(lambda leaf: 0.1 * leaf, model.params)
    of = leaf_paths(scores.CRITERIA[name](model.params, pooled, delta))
    assert of.keys() == leaf_paths(model.params).keys()
    assert all(np.isfinite(leaf).all() for leaf in of.values())
    assert (np.asarray(of["head/transform/kernel"]) > 0).all()


def test_texts_for_the_other_kind_of_model_are_refused():
    model = model_of()
    with pytest.raises(InputError, match="`encoded` is for masked models; the model is of the ca"):
        language_statistics(random_params(), encode(model, TEXTS), CONFIG)
