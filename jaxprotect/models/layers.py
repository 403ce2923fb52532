"""The pieces of a transformer block: norm, activations, positions, attention, MLP.

Shape letters: B batch, T tokens, P cached tokens before them, S = P + T, D width, H heads, K head
size, F MLP width, L layers.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxprotect.models.config import ModelConfig


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(1.702 x), the sigmoid approximation of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu_exact(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * Phi(x), with the error function."""
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU with the tanh approximation, as GPT-2 and BLOOM were trained."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu_exact,
    "gelu_python": gelu_exact,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": lambda x: x,
}
"""The checkpoint's name of an activation -> the function."""


def layer_norm(
    x: Float[Array, "*batch D"], norm: dict[str, Array], epsilon: float
) -> Float[Array, "*batch D"]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, over the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon) * norm["scale"] + norm["bias"]


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


def rotary_tables(
    tokens: int, rotary_dim: int, theta: float, start: int = 0
) -> tuple[Array, Array]:
    """Cosine and sine of position * theta^(-2i / rotary_dim), each [tokens, rotary_dim]."""
    frequencies = 1.0 / theta ** (np.arange(0, rotary_dim, 2, dtype=np.float32) / rotary_dim)
    positions = jnp.arange(start, start + tokens, dtype=jnp.float32)
    angles = positions[:, None] * frequencies.astype(np.float32)
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


def product(x: Array, kernel: Any, equation: str) -> Array:
    """`jnp.einsum(equation, x, kernel)`; a kernel that is not an array brings its own product."""
    if hasattr(kernel, "project"):
        return kernel.project(x, equation)
    return jnp.einsum(equation, x, kernel)


def _project(x: Array, layer: dict[str, Any], equation: str) -> Array:
    out = product(x, layer["kernel"], equation)
    return out + layer["bias"] if "bias" in layer else out


def queries_keys_values(
    x: Float[Array, "B T D"],
    params: dict[str, dict[str, Any]],
    config: ModelConfig,
    layer_index: Array,
    start: int = 0,
) -> tuple[Float[Array, "B T H K"], Float[Array, "B T H K"], Float[Array, "B T H K"]]:
    """Queries, scaled, keys and values; queries and keys are rotated where positions are rotary.

    Args:
        x: the normed residual stream.
        params: one layer's attention parameters: `qkv`, or `q`, `k`, `v`.
        config: the architecture.
        layer_index: position of the layer, for `scale_by_layer`.
        start: position of the first token.

    Returns:
        Queries, keys and values.
    """
    if config.fused_qkv:
        qkv_BxTx3xHxK = _project(x, params["qkv"], "btd,dchk->btchk")
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = (qkv_BxTx3xHxK[:, :, i] for i in range(3))
    else:
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = (
            _project(x, params[name], "btd,dhk->bthk") for name in ("q", "k", "v")
        )
    if config.positions == "rotary":
        tables = rotary_tables(x.shape[1], config.rotary_dim, config.rotary_theta, start)
        q_BxTxHxK = rotate(q_BxTxHxK, *tables)
        k_BxTxHxK = rotate(k_BxTxHxK, *tables)
    if config.scale_attention:
        q_BxTxHxK = q_BxTxHxK / math.sqrt(config.head_size)
    if config.scale_by_layer:
        q_BxTxHxK = q_BxTxHxK / (layer_index + 1).astype(q_BxTxHxK.dtype)
    return q_BxTxHxK, k_BxTxHxK, v_BxTxHxK


def _after_cached(cached_PxHxK: Array, own_BxTxHxK: Array) -> Array:
    shape = (own_BxTxHxK.shape[0], *cached_PxHxK.shape)
    cached_BxPxHxK = jnp.broadcast_to(cached_PxHxK.astype(own_BxTxHxK.dtype), shape)
    return jnp.concatenate([cached_BxPxHxK, own_BxTxHxK], axis=1)


def attention(
    x: Float[Array, "B T D"],
    params: dict[str, dict[str, Any]],
    config: ModelConfig,
    layer_index: Array,
    cached: tuple[Float[Array, "P H K"], Float[Array, "P H K"]] | None = None,
) -> Float[Array, "B T D"]:
    """Causal multi-head attention; positions enter here when they are rotary or ALiBi.

    Args:
        x: the normed residual stream.
        params: one layer's attention parameters: `qkv`, or `q`, `k`, `v`; and `out`.
        config: the architecture.
        layer_index: position of the layer, for `scale_by_layer`.
        cached: keys and values of the P tokens before `x`, which are not computed again.

    Returns:
        What the attention adds to the residual stream.
    """
    tokens, before = x.shape[1], 0 if cached is None else cached[0].shape[0]
    q_BxTxHxK, k_BxSxHxK, v_BxSxHxK = queries_keys_values(x, params, config, layer_index, before)
    if cached is not None:
        k_BxSxHxK = _after_cached(cached[0], k_BxSxHxK)
        v_BxSxHxK = _after_cached(cached[1], v_BxSxHxK)
    scores_BxHxTxS = jnp.einsum("bthk,bshk->bhts", q_BxTxHxK, k_BxSxHxK)
    if config.positions == "alibi":
        distance_S = jnp.arange(before + tokens, dtype=jnp.float32)
        scores_BxHxTxS += (alibi_slopes(config.heads)[:, None] * distance_S)[None, :, None]
    causal_TxS = jnp.tril(jnp.ones((tokens, before + tokens), bool), before)
    scores_BxHxTxS = jnp.where(causal_TxS, scores_BxHxTxS, jnp.finfo(jnp.float32).min)
    weights_BxHxTxS = jax.nn.softmax(scores_BxHxTxS.astype(jnp.float32)).astype(x.dtype)
    mixed_BxTxHxK = jnp.einsum("bhts,bshk->bthk", weights_BxHxTxS, v_BxSxHxK)
    return _project(mixed_BxTxHxK, params["out"], "bthk,hkd->btd")


def mlp(
    x: Float[Array, "B T D"], params: dict[str, dict[str, Any]], activation: str
) -> Float[Array, "B T D"]:
    """down(activation(up(x)))."""
    hidden_BxTxF = ACTIVATIONS[activation](_project(x, params["up"], "btd,df->btf"))
    return _project(hidden_BxTxF, params["down"], "btf,fd->btd")
