"""How positions enter attention: rotary tables, ALiBi slopes, and which positions see which.

Shape letters: T tokens, P cached tokens before them, S = P + T, R rotating dimensions, B batch,
H heads, K head size.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxprotect.models.config import ModelConfig, RotaryScaling


def alibi_slopes(heads: int) -> np.ndarray:
    """ALiBi's slope of each head (Press et al. 2022), for any number of heads.

    A power of two n gives 2^(-8 i / n), i = 1..n. Otherwise the slopes of the power of two
    below are followed by every second slope of the one above.

    Args:
        heads: number of attention heads.

    Returns:
        [heads] float32 slopes.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-4.0 * i / below) for i in range(1, 2 * (heads - below), 2)]
    return np.asarray(slopes, np.float32)


def rotary_frequencies(config: ModelConfig) -> Float[np.ndarray, "pairs"]:
    """Radians per position: theta^(-2i / R), stretched where the architecture says so."""
    exponents = np.arange(0, config.rotary_dim, 2, dtype=np.float32) / config.rotary_dim
    frequencies = np.float32(1.0) / np.float32(config.rotary_theta) ** exponents
    scaling = config.rotary_scaling
    return frequencies if scaling is None else _stretched(frequencies, scaling)


def _stretched(
    frequencies: Float[np.ndarray, "pairs"], scaling: RotaryScaling
) -> Float[np.ndarray, "pairs"]:
    """Frequencies for a longer context than the model was first trained with.

    `linear` divides all by the factor. `llama3` divides those that turn less than `low` times
    in the original context, leaves those that turn more than `high` times, and between the two
    goes linearly from one to the other (Llama 3.1, as in `transformers`).
    """
    slowed = frequencies / np.float32(scaling.factor)
    if scaling.kind == "linear":
        return slowed
    turns = scaling.original_context / (2 * np.pi / frequencies)
    share = (turns - scaling.low) / (scaling.high - scaling.low)
    share = np.clip(share, 0.0, 1.0).astype(np.float32)
    return (1 - share) * slowed + share * frequencies


def rotary_tables(tokens: int, config: ModelConfig, start: int = 0) -> tuple[Array, Array]:
    """Cosine and sine of position * frequency, each [tokens, R]."""
    positions = jnp.arange(start, start + tokens, dtype=jnp.float32)
    angles = positions[:, None] * rotary_frequencies(config)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "B T H K"], cosine: Float[Array, "T R"], sine: Float[Array, "T R"]
) -> Float[Array, "B T H K"]:
    """Rotate the leading R dimensions of each head, pairing i with i + R/2 (GPT-NeoX)."""
    rotary_dim = cosine.shape[-1]
    turning, still = x[..., :rotary_dim], x[..., rotary_dim:]
    first, second = jnp.split(turning, 2, axis=-1)
    turned = turning * cosine[:, None] + jnp.concatenate([-second, first], axis=-1) * sine[:, None]
    return jnp.concatenate([turned, still], axis=-1)


def visible(
    tokens: int, before: int, config: ModelConfig, layer_index: Array
) -> Bool[Array, "T S"]:
    """Which positions each token attends to: those up to its own, and in a window the last W.

    Args:
        tokens: T.
        before: P, cached tokens before them.
        config: the architecture.
        layer_index: position of the layer, for windows that only later layers have.

    Returns:
        True where a token (row) sees a position (column).
    """
    causal_TxS = jnp.tril(jnp.ones((tokens, before + tokens), bool), before)
    if not 0 < config.window < before + tokens:
        return causal_TxS
    near_TxS = jnp.triu(causal_TxS, before - config.window + 1)
    return jnp.where(layer_index < config.window_from_layer, causal_TxS, near_TxS)
