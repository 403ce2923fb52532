"""GPT-2 and mGPT against torch."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import GPT2Config
from transformers.activations import ACT2FN

from jaxprotect.models.layers import ACTIVATIONS

TINY: dict[str, object] = {
    "n_embd": 24,
    "n_head": 3,
    "n_layer": 2,
    "n_positions": 16,
    "vocab_size": 61,
}


def gpt2(**changes: object) -> GPT2Config:
    return GPT2Config.from_dict(TINY | changes)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(name):
    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    theirs = ACT2FN[name](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "quick_gelu", "relu2"])
def test_the_config_says_which_activation(check_parity, activation):
    check_parity(gpt2(activation_function=activation))


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"n_inner": 37},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"layer_norm_epsilon": 0.3},
        {"n_head": 24},
        {"n_head": 1, "n_layer": 1, "vocab_size": 7},
        {"n_positions": 11},
    ],
    ids=str,
)
def test_settings(check_parity, changes):
    check_parity(gpt2(**changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shard_size", ["1GB", "8KB"])
def test_half_precision_and_sharded_files(check_parity, dtype, shard_size, tmp_path):
    check_parity(gpt2(tie_word_embeddings=False), dtype=dtype, shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size != "1GB")


def test_hub_names_without_prefix_with_buffers_and_the_tied_head(check_parity):
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors = {name.removeprefix("transformer."): t for name, t in tensors.items()}
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()
        for layer in range(2):
            causal = np.tril(np.ones((16, 16), bool))[None, None]
            tensors[f"h.{layer}.attn.bias"] = causal
            tensors[f"h.{layer}.attn.masked_bias"] = np.full(1, -1e4, np.float32)
        save_file(tensors, folder / "model.safetensors")

    check_parity(gpt2(), edit=edit)
