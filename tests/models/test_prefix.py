"""A cached prefix is what running its tokens would be, whatever the weights that follow it."""

import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.loss import sentence_nats, token_nats
from jaxprotect.models import layers
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.prefix import Prefix, check_prefix, prefix_bytes, round_prefix
from jaxprotect.models.transformer import forward, hidden_states, unembed
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from tests.models.tiny_models import CONFIGS, NAMES
from tests.tiny import random_params

ALL = {name: replace(config, context=12) for name, config in CONFIGS.items()}
FAMILIES = {name: ALL[name] for name in ("gpt2", "opt", "neox", "bloom", "mistral")}
ALL["by layer"] = replace(ALL["gpt2"], scale_by_layer=True, scale_attention=False)
GPT2 = FAMILIES["gpt2"]
TEXTS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (4, 7)), jnp.int32)
NATS = jax.jit(token_nats, static_argnums=2)
FORWARD = jax.jit(forward, static_argnums=2)
SENTENCES = jax.jit(sentence_nats, static_argnums=3)
START = 3


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bloom", "mistral", "opt")]


@pytest.fixture(params=["gpt2", "neox", *SLOW])
def config(request):
    return FAMILIES[request.param]


def with_prefix(tokens, texts=TEXTS):
    rows = jnp.broadcast_to(jnp.asarray(tokens, jnp.int32), (len(texts), len(tokens)))
    return jnp.concatenate([rows, texts], axis=1)


@pytest.mark.parametrize("name", [*NAMES, "by layer"])
def test_the_cached_start_token_changes_nothing(name):
    config = ALL[name]
    params = random_params(config)
    rows = with_prefix([START])
    found = NATS(params, rows, config, make_prefix(params, [START], config))
    np.testing.assert_allclose(found, NATS(params, rows, config), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [(START,), (2, 7, 7, START, 5)])
def test_a_prefix_is_as_good_as_its_tokens(config, tokens):
    params = random_params(config)
    prefix = make_prefix(params, tokens, config)
    whole = FORWARD(params, with_prefix(tokens), config)
    found = FORWARD(params, TEXTS, config, prefix)
    np.testing.assert_allclose(found, whole[:, len(tokens) :], rtol=1e-5, atol=2e-5)
    first = unembed(params, prefix.hidden, config)
    np.testing.assert_allclose(first, whole[0, len(tokens) - 1], rtol=1e-5, atol=2e-5)


def test_column_0_is_a_slot_that_is_not_read(config):
    params = random_params(config)
    prefix = make_prefix(params, [1, START], config)
    nats = [NATS(params, with_prefix([slot]), config, prefix) for slot in (0, 9)]
    np.testing.assert_array_equal(*nats)
    expected = NATS(params, with_prefix([1, START]), config)[:, 1:]
    np.testing.assert_allclose(nats[0], expected, rtol=1e-5, atol=1e-5)


def test_a_quantized_model_attends_to_what_the_original_cached_bit_for_bit(config, monkeypatch):
    params = random_params(config)
    quantized = quantize_leaves(params, masks.none(params), QuantSpec(bits=3), config)
    prefix = make_prefix(params, [START, 4], config)
    own = make_prefix(quantized, [START, 4], config)
    assert not np.allclose(own.keys, prefix.keys, atol=1e-3)
    seen = []
    real = layers._after_cached

    def spy(cached, rest):
        seen.append(np.asarray(real(cached, rest)))
        return real(cached, rest)

    monkeypatch.setattr(layers, "_after_cached", spy)
    with jax.disable_jit():
        forward(quantized, TEXTS, config, prefix)
    keys, values = (np.stack(seen[i::2])[:, :, :2] for i in (0, 1))
    for found, cached in ((keys, prefix.keys), (values, prefix.values)):
        np.testing.assert_array_equal(found, np.broadcast_to(cached[:, None], found.shape))


def test_the_first_text_token_is_predicted_from_the_originals_hidden_state(config):
    params = random_params(config)
    quantized = quantize_leaves(params, masks.none(params), QuantSpec(bits=3), config)
    prefix = make_prefix(params, [START, 4], config)
    first = NATS(quantized, with_prefix([0]), config, prefix)[:, 0]
    hidden = hidden_states(params, jnp.asarray([[START, 4]]), config)[0, -1]
    np.testing.assert_allclose(prefix.hidden, hidden, rtol=1e-6, atol=1e-6)
    logits = unembed(quantized, prefix.hidden, config)
    expected = jax.nn.logsumexp(logits) - logits[TEXTS[:, 0]]
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-5)


def test_nothing_looks_ahead(config):
    params = random_params(config)
    prefix = make_prefix(params, [START, 4], config)
    changed = TEXTS.at[:, 4:].set((TEXTS[:, 4:] + 1) % 11)
    before, after = (np.asarray(FORWARD(params, t, config, prefix)) for t in (TEXTS, changed))
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-6, atol=1e-6)
    assert not np.allclose(before[:, 4:], after[:, 4:])


def test_padding_and_batch_change_nothing(config):
    params = random_params(config)
    prefix = make_prefix(params, [START, 4], config)
    rows = with_prefix([0])
    scored = jnp.ones(rows.shape, bool).at[:, 0].set(False)
    padded = jnp.pad(rows, ((0, 2), (0, 2)))
    padded_scored = jnp.pad(scored, ((0, 2), (0, 2)))
    whole = SENTENCES(params, padded, padded_scored, config, prefix)
    assert np.asarray(whole[4:]).tolist() == [0, 0]
    for i in range(len(rows)):
        alone = SENTENCES(params, rows[i : i + 1], scored[i : i + 1], config, prefix)
        np.testing.assert_allclose(alone[0], whole[i], rtol=1e-5)


def test_jit_equals_eager(config):
    params = random_params(config)
    prefix = make_prefix(params, [START, 4], config)
    eager = token_nats(params, with_prefix([0]), config, prefix)
    np.testing.assert_allclose(NATS(params, with_prefix([0]), config, prefix), eager, atol=1e-5)


def test_one_text_token_needs_only_the_hidden_state(config):
    params = random_params(config)
    prefix = make_prefix(params, [START, 4], config)
    nats = NATS(params, with_prefix([0], TEXTS[:, :1]), config, prefix)
    np.testing.assert_allclose(
        nats, NATS(params, with_prefix([0]), config, prefix)[:, :1], rtol=1e-6
    )


@pytest.mark.parametrize("config", [ALL["gpt2"], ALL["neox"]], ids=["gpt2", "neox"])
def test_a_prefix_leaves_text_the_rest_of_the_context(config):
    params = random_params(config)
    longest = make_prefix(params, [START] * 11, config)
    forward(params, TEXTS[:, :1], config, longest)
    for count in (0, 12):
        with pytest.raises(InputError, match=rf"`prefix` has {count} tokens; allowed are 1 to 11"):
            make_prefix(params, [START] * count, config)
    if config.positions == "learned":
        with pytest.raises(InputError, match=r"`tokens` has 2 positions after a prefix of 11"):
            forward(params, TEXTS[:, :2], config, longest)


@pytest.mark.parametrize("token", [-1, 11])
def test_tokens_beyond_the_vocabulary_are_refused(token):
    with pytest.raises(InputError, match=rf"`tokens` has the id {token}; .* are 0 to 10"):
        make_prefix(random_params(GPT2), [START, token], GPT2)


def test_a_prefix_of_another_model_is_refused():
    prefix = make_prefix(random_params(GPT2), [START], GPT2)
    for other, message in (
        (replace(GPT2, layers=3), r"keys of shape \(2, 1, 3, 2\); allowed is \(3, 1, 3, 2\)"),
        (replace(GPT2, heads=1), r"keys of shape"),
        (replace(GPT2, context=1), r"has 1 tokens"),
    ):
        with pytest.raises(InputError, match=message):
            check_prefix(prefix, other)
    with pytest.raises(InputError, match=r"keys of shape"):
        hidden_states(random_params(GPT2), TEXTS, replace(GPT2, layers=3), prefix)
    odd = copy.copy(prefix)  # the tests' type checker would not let it be made
    object.__setattr__(odd, "values", prefix.values[..., :1])
    with pytest.raises(InputError, match=r"values of shape \(2, 1, 3, 1\)"):
        check_prefix(odd, GPT2)
    with pytest.raises(InputError, match=r"hidden state of shape \(4,\); allowed is \(6,\)"):
        check_prefix(replace(prefix, hidden=prefix.hidden[:4]), GPT2)


def test_bytes_are_those_of_its_arrays():
    prefix = make_prefix(random_params(GPT2), [START, 1, 2], GPT2)
    arrays = [np.asarray(a, np.float16) for a in (prefix.keys, prefix.values, prefix.hidden)]
    assert prefix_bytes(prefix) == sum(array.nbytes for array in arrays)
    assert prefix_bytes(prefix) == 2 * (2 * 2 * 3 * 3 * 2 + 6)
    assert prefix_bytes(prefix, "float32") == 2 * prefix_bytes(prefix)


def test_rounding_is_to_the_nearest_half_and_once():
    prefix = make_prefix(random_params(GPT2), [START, 1], GPT2)
    rounded = round_prefix(prefix)
    assert rounded.keys.dtype == jnp.float32
    assert rounded.tokens == prefix.tokens
    np.testing.assert_array_equal(rounded.keys, np.asarray(prefix.keys, np.float16))
    assert not np.array_equal(rounded.keys, prefix.keys)
    np.testing.assert_array_equal(round_prefix(rounded).keys, rounded.keys)
    with pytest.raises(InputError, match="values that float16 cannot hold"):
        round_prefix(replace(prefix, hidden=prefix.hidden + 1e6))


def test_gradients_flow_into_the_prefix_and_are_those_of_differences():
    params = random_params(GPT2)
    prefix = make_prefix(params, [START, 4], GPT2)

    def loss(prefix: Prefix) -> jax.Array:
        return token_nats(params, with_prefix([0]), GPT2, prefix).sum()

    slopes = jax.grad(loss)(prefix)
    direction = jax.tree.map(jnp.ones_like, prefix)
    step = 1e-2
    ends = [jax.tree.map(lambda a, b, s=s: a + s * b, prefix, direction) for s in (step, -step)]
    numeric = (loss(ends[0]) - loss(ends[1])) / (2 * step)
    analytic = sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(slopes))
    np.testing.assert_allclose(analytic, numeric, rtol=2e-2)
