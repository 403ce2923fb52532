"""BLOOM against torch."""

from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BloomConfig

TINY: dict[str, object] = {"hidden_size": 24, "n_head": 3, "n_layer": 2, "vocab_size": 61}


def bloom(**changes: object) -> BloomConfig:
    return BloomConfig.from_dict(TINY | changes)


@pytest.mark.parametrize("heads", [1, 3, 5, 6, 8, 12])
def test_alibi_slopes_of_any_number_of_heads(check_parity, heads):
    check_parity(bloom(n_head=heads, hidden_size=4 * heads if heads > 1 else 24))


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"apply_residual_connection_post_layernorm": True},
        {"layer_norm_epsilon": 0.3},
        {"pretraining_tp": 4},
    ],
    ids=str,
)
def test_settings(check_parity, changes):
    check_parity(bloom(**changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_sharded_files(check_parity, dtype):
    check_parity(bloom(), dtype=dtype, shard_size="8KB")


def test_hub_names_without_prefix(check_parity):
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        save_file(plain, folder / "model.safetensors")

    check_parity(bloom(), edit=edit)
