"""The pieces of a transformer block: norm, activations, attention, MLP.

Shape letters: B batch, T tokens, P cached tokens before them, S = P + T, D width, H heads, J heads
of keys and values, K head size, F MLP width, L layers.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.positions import alibi_slopes, rotary_tables, rotate, visible
from jaxprotect.models.sharding import whole
from jaxprotect.products import einsum


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


def rms_norm(
    x: Float[Array, "*batch D"], norm: dict[str, Array], epsilon: float
) -> Float[Array, "*batch D"]:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the last axis, accumulated in float32."""
    wide = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(square + epsilon)).astype(x.dtype) * norm["scale"]


def normed(
    x: Float[Array, "*batch D"], norm: dict[str, Array], config: ModelConfig
) -> Float[Array, "*batch D"]:
    """The architecture's norm."""
    function = rms_norm if config.norm == "rms" else layer_norm
    return function(x, norm, config.norm_epsilon)


def product(x: Array, kernel: Any, equation: str) -> Array:
    """`einsum(equation, x, kernel)`; a kernel that is not an array brings its own product."""
    if hasattr(kernel, "project"):
        return kernel.project(x, equation)
    return einsum(equation, x, kernel)


def project(x: Array, layer: dict[str, Any], equation: str) -> Array:
    """A dense layer: `product` and, where there is one, the bias."""
    out = product(x, layer["kernel"], equation)
    return out + layer["bias"] if "bias" in layer else out


def queries_keys_values(
    x: Float[Array, "B T D"],
    params: dict[str, dict[str, Any]],
    config: ModelConfig,
    layer_index: Array,
    start: int = 0,
) -> tuple[Float[Array, "B T H K"], Float[Array, "B T J K"], Float[Array, "B T J K"]]:
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
        qkv_BxTx3xHxK = project(x, params["qkv"], "btd,dchk->btchk")
        q_BxTxHxK, k_BxTxJxK, v_BxTxJxK = (qkv_BxTx3xHxK[:, :, i] for i in range(3))
    else:
        q_BxTxHxK, k_BxTxJxK, v_BxTxJxK = (
            project(x, params[name], "btd,dhk->bthk") for name in ("q", "k", "v")
        )
    if config.positions == "rotary":
        tables = rotary_tables(x.shape[1], config, start)
        q_BxTxHxK = rotate(q_BxTxHxK, *tables)
        k_BxTxJxK = rotate(k_BxTxJxK, *tables)
    if config.scale_attention:
        q_BxTxHxK = q_BxTxHxK / math.sqrt(config.head_size)
    if config.scale_by_layer:
        q_BxTxHxK = q_BxTxHxK / (layer_index + 1).astype(q_BxTxHxK.dtype)
    return q_BxTxHxK, k_BxTxJxK, v_BxTxJxK


def _after_cached(cached_PxJxK: Array, own_BxTxJxK: Array) -> Array:
    shape = (own_BxTxJxK.shape[0], *cached_PxJxK.shape)
    cached_BxPxJxK = jnp.broadcast_to(cached_PxJxK.astype(own_BxTxJxK.dtype), shape)
    return jnp.concatenate([cached_BxPxJxK, own_BxTxJxK], axis=1)


def _for_queries(of_BxSxJxK: Array, config: ModelConfig) -> Array:
    """Keys or values once for every query head that reads them."""
    if config.queries_per_key == 1:
        return of_BxSxJxK
    return jnp.repeat(of_BxSxJxK, config.queries_per_key, axis=2)


def attention(
    x: Float[Array, "B T D"],
    params: dict[str, dict[str, Any]],
    config: ModelConfig,
    layer_index: Array,
    cached: tuple[Float[Array, "P J K"], Float[Array, "P J K"]] | None = None,
    real: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """Multi-head attention; positions enter here when they are rotary or ALiBi.

    Of H query heads, H / J neighbours read the same head of keys and values.

    Args:
        x: the normed residual stream.
        params: one layer's attention parameters: `qkv`, or `q`, `k`, `v`; and `out`.
        config: the architecture.
        layer_index: position of the layer, for `scale_by_layer` and windows.
        cached: keys and values of the P tokens before `x`, which are not computed again.
        real: False in padding; attention then sees all that is real, on both sides. Causal if
            None.

    Returns:
        What the attention adds to the residual stream.
    """
    tokens, before = x.shape[1], 0 if cached is None else cached[0].shape[0]
    q_BxTxHxK, k_BxSxJxK, v_BxSxJxK = queries_keys_values(x, params, config, layer_index, before)
    if cached is not None:
        k_BxSxJxK = _after_cached(cached[0], k_BxSxJxK)
        v_BxSxJxK = _after_cached(cached[1], v_BxSxJxK)
    k_BxSxHxK, v_BxSxHxK = (_for_queries(of, config) for of in (k_BxSxJxK, v_BxSxJxK))
    scores_BxHxTxS = einsum("bthk,bshk->bhts", q_BxTxHxK, k_BxSxHxK)
    if config.positions == "alibi":
        distance_S = jnp.arange(before + tokens, dtype=jnp.float32)
        scores_BxHxTxS += (alibi_slopes(config.heads)[:, None] * distance_S)[None, :, None]
    causal = real is None
    seen = visible(tokens, before, config, layer_index) if causal else real[:, None, None, :]
    scores_BxHxTxS = jnp.where(seen, scores_BxHxTxS, jnp.finfo(jnp.float32).min)
    weights_BxHxTxS = jax.nn.softmax(scores_BxHxTxS.astype(jnp.float32)).astype(x.dtype)
    mixed_BxTxHxK = einsum("bhts,bshk->bthk", weights_BxHxTxS, v_BxSxHxK)
    return whole(project(whole(mixed_BxTxHxK), params["out"], "bthk,hkd->btd"))


def mlp(
    x: Float[Array, "B T D"], params: dict[str, dict[str, Any]], config: ModelConfig
) -> Float[Array, "B T D"]:
    """down(activation(up(x))); down(activation(gate(x)) * up(x)) where there is a gate."""
    activation = ACTIVATIONS[config.activation]
    hidden_BxTxF = project(x, params["up"], "btd,df->btf")
    if config.gated_mlp:
        hidden_BxTxF = activation(project(x, params["gate"], "btd,df->btf")) * hidden_BxTxF
    else:
        hidden_BxTxF = activation(hidden_BxTxF)
    return whole(project(whole(hidden_BxTxF), params["down"], "btf,fd->btd"))
