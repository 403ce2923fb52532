"""OPT against torch."""

import pytest
import torch
from transformers import OPTConfig

TINY: dict[str, object] = {
    "hidden_size": 24,
    "word_embed_proj_dim": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "ffn_dim": 44,
    "max_position_embeddings": 16,
    "vocab_size": 61,
}


def opt(**changes: object) -> OPTConfig:
    return OPTConfig.from_dict(TINY | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"enable_bias": False},
        {"_remove_final_layer_norm": True, "num_hidden_layers": 1},
        {"activation_function": "gelu", "num_attention_heads": 6},
        {"max_position_embeddings": 11},
    ],
    ids=str,
)
def test_settings(check_parity, changes):
    check_parity(opt(**changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_sharded_files(check_parity, dtype):
    check_parity(opt(), dtype=dtype, shard_size="8KB")
