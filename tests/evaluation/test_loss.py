"""The loss of chunks of rows is that of all rows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprotect.evaluation import loss
from jaxprotect.models.transformer import forward
from tests.tiny import CONFIG, random_params


@given(rows=st.integers(1, 10**6), vocab_size=st.integers(1, 300_000))
def test_chunks_hold_few_logits_and_little_padding(rows, vocab_size):
    chunk = loss._chunk_rows(rows, vocab_size)
    chunks = math.ceil(rows / chunk)
    assert 1 <= chunk <= rows
    assert chunk == 1 or chunk * vocab_size <= loss.LOGITS_AT_ONCE
    assert chunks * chunk - rows < chunks


@pytest.mark.parametrize("rows_at_once", [1, 7, pytest.param(26, marks=pytest.mark.slow), 1000])
def test_chunks_do_not_change_nats_or_gradients(monkeypatch, rows_at_once):
    params = random_params()
    tokens = jax.random.randint(jax.random.key(0), (3, 10), 0, CONFIG.vocab_size)
    logits = jax.nn.log_softmax(forward(params, tokens, CONFIG)[:, :-1])
    expected = -jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]

    def gradient():
        return jax.jit(jax.grad(lambda tree: loss.token_nats(tree, tokens, CONFIG).sum()))(params)

    whole = gradient()
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", rows_at_once * CONFIG.vocab_size)
    np.testing.assert_allclose(loss.token_nats(params, tokens, CONFIG), expected, atol=2e-6)
    for got, want in zip(jax.tree.leaves(gradient()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)
