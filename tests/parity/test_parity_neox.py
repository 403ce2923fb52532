"""GPT-NeoX (Pythia) against torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import GPTNeoXConfig

TINY: dict[str, object] = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 52,
    "max_position_embeddings": 16,
    "vocab_size": 61,
}


def neox(**changes: object) -> GPTNeoXConfig:
    return GPTNeoXConfig.from_dict(TINY | changes)


@pytest.mark.parametrize("rotary_pct", [0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("parallel", [True, False])
def test_rotary_share_and_residual(check_parity, rotary_pct, parallel):
    check_parity(neox(rotary_pct=rotary_pct, use_parallel_residual=parallel))


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": True},
        {"attention_bias": False},
        {"hidden_act": "relu"},
        {"rotary_emb_base": 17, "rotary_pct": 1.0},
        {"num_attention_heads": 6, "rotary_pct": 0.5},
        {"layer_norm_eps": 0.3},
    ],
    ids=str,
)
def test_settings(check_parity, changes):
    check_parity(neox(**changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_sharded_files(check_parity, dtype):
    check_parity(neox(), dtype=dtype, shard_size="8KB")


def test_the_buffers_of_older_files_are_dropped(check_parity):
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        for layer in range(2):
            attention = f"gpt_neox.layers.{layer}.attention"
            tensors[f"{attention}.bias"] = np.tril(np.ones((16, 16), bool))[None, None]
            tensors[f"{attention}.masked_bias"] = np.asarray(-1e4, np.float16)
            tensors[f"{attention}.rotary_emb.inv_freq"] = np.ones(1, np.float32)
        save_file(tensors, folder / "model.safetensors")

    check_parity(neox(), edit=edit)
