"""The models that are timed: real shapes, random weights."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, init_params

GPT2 = ModelConfig(
    family="gpt2", layers=12, width=768, heads=12, mlp_width=3072, vocab_size=50257, context=1024
)
"""GPT-2, 124 million parameters."""

MGPT = ModelConfig(
    family="gpt2", layers=24, width=2048, heads=16, mlp_width=8192, vocab_size=100_000, context=2048
)
"""mGPT, 1.4 billion parameters."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure.

    Args:
        repeats: timed rounds of every candidate.
        small: shapes of a few thousand weights, to see that a benchmark runs.
    """

    repeats: int = 5
    small: bool = False


def gpt2(options: Options) -> ModelConfig:
    """GPT-2, or something far smaller."""
    if not options.small:
        return GPT2
    return replace(GPT2, layers=2, width=32, heads=2, mlp_width=64, vocab_size=10_000, context=256)


def random_params(config: ModelConfig) -> Params:
    """Weights as GPT-2 starts with them, always the same."""
    return jax.jit(init_params, static_argnums=1)(jax.random.key(0), config)


def random_tokens(config: ModelConfig, batch: int, length: int) -> np.ndarray:
    """[batch, length] token ids."""
    drawn = np.random.default_rng(0).integers(0, config.vocab_size, (batch, length))
    return drawn.astype(np.int32)


def matrix_products(config: ModelConfig, rows: int, length: int, scored_rows: int) -> float:
    """Floating-point operations of the matrix products of one forward pass.

    2 * rows * (weights of the blocks) + 2 * scored_rows * D * V + 4 * rows * length * D * L; the
    last is attention, every query with every key.

    Args:
        config: the architecture.
        rows: tokens in all.
        length: tokens of one sequence.
        scored_rows: tokens whose logits are made.

    Returns:
        Operations.
    """
    D, L = config.width, config.layers
    blocks = L * (4 * D * D + 2 * D * config.mlp_width)
    head = 2.0 * scored_rows * D * config.vocab_size
    return 2.0 * rows * blocks + head + 4.0 * rows * length * D * L
