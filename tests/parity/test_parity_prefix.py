"""A cached prefix against torch's `past_key_values`."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import GPT2Config, MistralConfig

from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config_files import load_config
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.transformer import forward
from tests.parity.conftest import LOGITS_BAR, make_model, make_tokens

GPT2 = GPT2Config(n_embd=24, n_head=3, n_layer=2, n_positions=16, vocab_size=61)
MISTRAL = MistralConfig(
    hidden_size=24,
    num_attention_heads=6,
    num_key_value_heads=3,
    num_hidden_layers=2,
    intermediate_size=44,
    max_position_embeddings=16,
    vocab_size=61,
    sliding_window=8,
)
"""The window leaves behind some of the cached tokens, for late tokens of the text."""


@pytest.mark.parametrize("hf_config", [GPT2, MISTRAL], ids=["gpt2", "mistral"])
def test_logits_after_past_keys_and_values(tmp_path, hf_config):
    model = make_model(hf_config)
    model.save_pretrained(tmp_path)
    config = load_config(tmp_path)
    params, _ = load_params(tmp_path, config)
    before, texts = [5, 60, 5, 17], make_tokens(61)
    with torch.no_grad():
        tokens = torch.tensor([before] * len(texts))
        past = model(tokens, use_cache=True).past_key_values
        keys = past.layers[1].keys[0].numpy().copy()
        theirs = model(torch.from_numpy(texts), past_key_values=past).logits.numpy()
    prefix = make_prefix(params, before, config)
    np.testing.assert_allclose(prefix.keys[1], keys.swapaxes(0, 1), atol=LOGITS_BAR)
    ours = forward(params, jnp.asarray(texts), config, prefix)
    assert 1 < np.abs(theirs).max() < 15
    assert np.abs(np.asarray(ours) - theirs).max() < LOGITS_BAR
