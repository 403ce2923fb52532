"""Random torch models, and the one comparison that every parity test makes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig

from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config_files import load_config
from jaxprotect.models.transformer import forward

LOGITS_BAR = 2e-5
LOSS_BAR = 1e-6


def make_model(hf_config: PretrainedConfig, seed: int = 0) -> Any:
    """A torch model whose every weight, bias and norm gain is far from its default."""
    torch.manual_seed(seed)
    hf_config = copy.deepcopy(hf_config)  # saving writes the dtype into it
    masked = hf_config.model_type in ("bert", "xlm-roberta")
    kind: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    model = kind.from_config(hf_config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.35 if "emb" in name or "wte" in name else 0.2)
            elif name.endswith("bias"):
                weight.normal_(std=0.2)
            else:
                weight.normal_(mean=1.0, std=0.2)
    return model


def make_tokens(vocab_size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, vocab_size, (8, 11))


def mean_nats(logits: np.ndarray, tokens: np.ndarray) -> float:
    """Mean -ln p of every token after the first, in float64."""
    exact = logits[:, :-1].astype(np.float64)
    chosen = np.take_along_axis(exact, tokens[:, 1:, None], axis=-1)[..., 0]
    largest = exact.max(-1)
    return float((largest + np.log(np.exp(exact - largest[..., None]).sum(-1)) - chosen).mean())


def torch_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """What the model computes in float32 with its (possibly rounded) weights."""
    with torch.no_grad():
        return model.float()(torch.from_numpy(tokens)).logits.numpy()


def our_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """The same from a Hugging Face folder, read and run without torch."""
    config = load_config(folder)
    params, _ = load_params(folder, config)
    # Half of the compile time; test_round_trip.py uses the default level.
    quick = {"xla_backend_optimization_level": 0}
    run = jax.jit(forward, static_argnums=2, compiler_options=quick)
    return np.asarray(run(params, tokens, config))


def assert_close(ours: np.ndarray, theirs: np.ndarray, tokens: np.ndarray) -> None:
    spread = float(np.abs(theirs).max())
    assert 1 < spread < 15, f"logits of up to {spread} do not test much"
    assert np.abs(ours - theirs).max() < LOGITS_BAR
    assert abs(mean_nats(ours, tokens) - mean_nats(theirs, tokens)) < LOSS_BAR


@pytest.fixture
def random_model() -> Callable[..., Any]:
    return make_model


@pytest.fixture
def random_tokens() -> Callable[[int], np.ndarray]:
    return make_tokens


@pytest.fixture
def check_parity(tmp_path: Path) -> Callable[..., None]:
    """Save a random model of a config with transformers, load it here, compare logits and loss."""

    def check(
        hf_config: PretrainedConfig,
        *,
        dtype: torch.dtype = torch.float32,
        shard_size: str = "1GB",
        edit: Callable[[Path], None] | None = None,
        tokens: np.ndarray | None = None,
    ) -> None:
        model = make_model(hf_config)
        for weight in model.parameters():  # not buffers: rotary frequencies stay in float32
            weight.data = weight.data.to(dtype)
        model.save_pretrained(tmp_path, max_shard_size=shard_size)
        if edit is not None:
            edit(tmp_path)
        tokens = make_tokens(hf_config.vocab_size) if tokens is None else tokens
        assert_close(our_logits(tmp_path, tokens), torch_logits(model, tokens), tokens)

    return check
