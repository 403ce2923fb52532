"""A tiny config of every family and awkward setting, and how to compare params."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxprotect.models.config import ModelConfig, RotaryScaling
from jaxprotect.models.transformer import Params
from jaxprotect.trees import leaf_paths

GPT2 = ModelConfig(
    family="gpt2", layers=2, width=6, heads=3, mlp_width=10, vocab_size=11, context=5
)
OPT = replace(GPT2, family="opt", position_offset=2, fused_qkv=False, activation="relu")
NEOX = replace(GPT2, family="gpt_neox", positions="rotary", rotary_dim=2, tied_head=False)
BLOOM = replace(GPT2, family="bloom", positions="alibi", embedding_norm=True, mlp_width=24)
LLAMA = replace(
    GPT2,
    family="llama",
    width=10,
    heads=5,
    own_head_size=4,
    positions="rotary",
    rotary_dim=4,
    rotary_scaling=RotaryScaling(kind="llama3", factor=4.0, low=1.0, high=4.0, original_context=16),
    norm="rms",
    gated_mlp=True,
    activation="silu",
    fused_qkv=False,
    tied_head=False,
)
QWEN2 = replace(
    LLAMA,
    family="qwen2",
    width=8,
    heads=4,
    queries_per_key=2,
    own_head_size=0,
    rotary_dim=2,
    rotary_scaling=None,
    window=3,
    window_from_layer=1,
    out_bias=False,
    mlp_bias=False,
    tied_head=True,
)
BERT = replace(
    GPT2,
    family="bert",
    masked=True,
    token_types=2,
    norm_after=True,
    embedding_norm=True,
    fused_qkv=False,
    activation="gelu",
)
CONFIGS = {
    "gpt2": GPT2,
    "gpt2 untied": replace(GPT2, tied_head=False),
    "opt": OPT,
    "opt bare": replace(OPT, attention_bias=False, mlp_bias=False, final_norm=False),
    "neox": NEOX,
    "neox tied": replace(NEOX, attention_bias=False, tied_head=True),
    "bloom": BLOOM,
    "llama": LLAMA,
    "mistral": replace(
        LLAMA, family="mistral", heads=4, queries_per_key=2, attention_bias=False, mlp_bias=False
    ),
    "qwen2": QWEN2,
}
MASKED = {
    "bert": BERT,
    "xlm-roberta": replace(
        BERT, family="xlm-roberta", position_offset=2, token_types=1, activation="relu"
    ),
}

FAST = ("gpt2", "opt", "neox", "bloom", "qwen2")
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
"""All of them for a test that takes seconds: one of each kind is fast."""

EVERY = CONFIGS | MASKED
"""What checkpoints, counts and packing are tested with; forward and losses are apart."""


def assert_same(a: Params, b: Params) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for path, leaf in leaf_paths(a).items():
        np.testing.assert_array_equal(leaf, leaf_paths(b)[path], err_msg=path)
