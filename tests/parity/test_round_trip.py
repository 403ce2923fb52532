"""Hugging Face folder -> params -> Hugging Face folder, judged by torch and bit by bit."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
    XLMRobertaConfig,
)

from jaxprotect.evaluation.loss import token_nats
from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.config_files import load_config
from jaxprotect.models.transformer import forward

SIZES: dict[str, object] = {
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "vocab_size": 53,
    "max_position_embeddings": 16,
}
OPT_SIZES = SIZES | {"ffn_dim": 44, "word_embed_proj_dim": 20}
NEOX_SIZES = SIZES | {"intermediate_size": 44}
BLOOM_SIZES = {name: size for name, size in SIZES.items() if name != "max_position_embeddings"}
LLAMA_SIZES = NEOX_SIZES | {"num_attention_heads": 10, "num_key_value_heads": 5}
UNTIED = {"tie_word_embeddings": False}
CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config.from_dict(SIZES | {"n_inner": 44}),
    "gpt2 untied": GPT2Config.from_dict(SIZES | UNTIED),
    "opt": OPTConfig.from_dict(OPT_SIZES),
    "opt bare": OPTConfig.from_dict(
        OPT_SIZES | UNTIED | {"enable_bias": False, "_remove_final_layer_norm": True}
    ),
    "neox": GPTNeoXConfig.from_dict(NEOX_SIZES | {"rotary_pct": 0.5}),
    "neox tied": GPTNeoXConfig.from_dict(
        NEOX_SIZES
        | {"tie_word_embeddings": True, "attention_bias": False}
        | {"use_parallel_residual": False, "rotary_pct": 1.0}
    ),
    "bloom": BloomConfig.from_dict(BLOOM_SIZES | {"seq_length": 16}),
    "bloom untied": BloomConfig.from_dict(
        BLOOM_SIZES | UNTIED | {"apply_residual_connection_post_layernorm": True}
    ),
    "llama": LlamaConfig.from_dict(
        LLAMA_SIZES
        | {"attention_bias": True, "mlp_bias": True, "head_dim": 4}
        | {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}}
    ),
    "mistral": MistralConfig.from_dict(LLAMA_SIZES | {"sliding_window": 4}),
    "qwen2": Qwen2Config.from_dict(
        LLAMA_SIZES
        | {"tie_word_embeddings": True, "use_sliding_window": True}
        | {"sliding_window": 3, "max_window_layers": 1}
    ),
}
MASKED: dict[str, PretrainedConfig] = {
    "bert": BertConfig.from_dict(NEOX_SIZES),
    "xlm-roberta": XLMRobertaConfig.from_dict(NEOX_SIZES | {"type_vocab_size": 1}),
}


def stored_bits(folder: Path) -> dict[str, tuple[torch.dtype, bytes]]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        return {
            name: (tensor.dtype, tensor.contiguous().view(torch.uint8).numpy().tobytes())
            for name in file.keys()  # noqa: SIM118 (not a dict)
            for tensor in [file.get_tensor(name)]
        }


def torch_mean_nats(model: Any, tokens: np.ndarray) -> float:
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        logits = model.float()(ids).logits[:, :-1].flatten(0, 1)
        nats = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    return float(nats.double().mean())


@pytest.mark.parametrize("name", [*CONFIGS, *MASKED])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_load_then_save_keeps_every_bit(random_model, tmp_path, name, dtype):
    model = random_model((CONFIGS | MASKED)[name]).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "theirs")
    config = load_config(tmp_path / "theirs")
    params, _ = load_params(tmp_path / "theirs", config)
    save_model_folder(tmp_path / "ours", params, config, dtype=dtype)
    assert stored_bits(tmp_path / "ours") == stored_bits(tmp_path / "theirs")
    assert load_config(tmp_path / "ours") == config


@pytest.mark.parametrize("name", CONFIGS)
def test_torch_gets_our_loss_from_the_folder_we_write(random_model, random_tokens, tmp_path, name):
    random_model(CONFIGS[name]).save_pretrained(tmp_path / "theirs")
    config = load_config(tmp_path / "theirs")
    params, _ = load_params(tmp_path / "theirs", config)
    params = jax.tree.map(lambda leaf: leaf * 0.9, params)
    save_model_folder(tmp_path / "ours", params, config)

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", output_loading_info=True
    )
    model, report = loaded
    assert not any(report.values())
    tokens = random_tokens(config.vocab_size)
    nats = np.asarray(jax.jit(token_nats, static_argnums=2)(params, tokens, config), np.float64)
    assert abs(nats.mean() - torch_mean_nats(model, tokens)) < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "opt", "neox", "bloom", "mistral"])
def test_right_padding_changes_nothing(random_model, random_tokens, tmp_path, name):
    model = random_model(CONFIGS[name])
    model.save_pretrained(tmp_path)
    config = load_config(tmp_path)
    params, _ = load_params(tmp_path, config)
    tokens = random_tokens(config.vocab_size)
    lengths = np.arange(len(tokens)) % 7 + 4
    real = np.arange(tokens.shape[1]) < lengths[:, None]
    run = jax.jit(forward, static_argnums=2)
    ours = np.asarray(run(params, np.where(real, tokens, 0), config))
    other = np.asarray(run(params, np.where(real, tokens, 52), config))
    assert (ours[real] == other[real]).all()
    with torch.no_grad():
        masked = model(torch.from_numpy(tokens), attention_mask=torch.from_numpy(real).long())
    assert np.abs(ours[real] - masked.logits.numpy()[real]).max() < 2e-5
