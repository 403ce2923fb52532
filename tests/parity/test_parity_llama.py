"""Llama, Mistral and Qwen2 against torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from jaxprotect.models.config_files import load_config

TINY: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 52,
    "max_position_embeddings": 16,
    "vocab_size": 61,
}
CLASSES: dict[str, Any] = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
EVERY = pytest.mark.parametrize("family", CLASSES)
LATER = [pytest.param(family, marks=pytest.mark.slow) for family in ("mistral", "qwen2")]
SHARED = pytest.mark.parametrize("family", ["llama", *LATER])  # one reader serves all three


def tiny(family: str, **changes: object) -> Any:
    return CLASSES[family].from_dict(TINY | changes)


def rope(kind: str, **numbers: float) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0} | numbers}


LLAMA3 = rope(
    "llama3",
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)


@EVERY
@pytest.mark.parametrize("keys", [1, 6])
def test_heads_that_share_keys_and_values(check_parity, family, keys):
    check_parity(tiny(family, num_key_value_heads=keys))


@SHARED
@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": True},
        {"head_dim": 10},
        {"rms_norm_eps": 0.3, "hidden_act": "gelu"},
        rope("default"),
        rope("linear", factor=3.0),
        LLAMA3,
    ],
    ids=str,
)
def test_settings(check_parity, family, changes):
    check_parity(tiny(family, **changes))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
        ("llama", {"num_key_value_heads": None, "head_dim": None}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 1}),
        ("mistral", {"sliding_window": 4}),
        ("mistral", {"sliding_window": 11}),
        ("mistral", {"hidden_size": 20, "head_dim": 6}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 3, "max_window_layers": 0}),
    ],
    ids=str,
)
def test_settings_of_one_family(check_parity, family, changes):
    check_parity(tiny(family, **changes))


@EVERY
def test_half_precision_and_sharded_files(check_parity, family, tmp_path):
    dtype = torch.float16 if family == "llama" else torch.bfloat16
    check_parity(tiny(family, **LLAMA3, tie_word_embeddings=True), dtype=dtype, shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.json").exists()


def test_hub_names_without_prefix_and_the_buffers_of_older_files(check_parity):
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        for layer in range(2):
            name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
            tensors[name] = np.ones(2, np.float32)
        save_file(tensors, folder / "model.safetensors")

    check_parity(tiny("llama"), edit=edit)


def test_the_settings_tested_are_the_ones_meant(tmp_path):
    """Else parity might hold because both sides ignore a field."""
    tiny("llama", head_dim=10, **LLAMA3).save_pretrained(tmp_path)
    config = load_config(tmp_path)
    assert (config.key_heads, config.head_size, config.rotary_dim) == (2, 10, 10)
    assert config.rotary_scaling is not None
    assert config.rotary_scaling.kind == "llama3"
    changes = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
    tiny("qwen2", **changes).save_pretrained(tmp_path)
    config = load_config(tmp_path)
    assert (config.window, config.window_from_layer, config.out_bias) == (3, 1, False)
