"""tokens -> logits: one functional transformer for every family."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.layers import ACTIVATIONS, attention, mlp, normed, product, project
from jaxprotect.models.prefix import Prefix, check_prefix

Params = dict

PADDING = -1
"""In the place of a token id after the end of a masked model's input."""


def block_output(
    x_BxTxD: Array,
    block: Params,
    layer_index: Array,
    config: ModelConfig,
    cached: tuple[Array, Array] | None = None,
    real: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """The residual stream after one block; `cached` and `real` as in `attention`."""
    if config.norm_after:
        attended_BxTxD = attention(x_BxTxD, block["attention"], config, layer_index, cached, real)
        x_BxTxD = normed(x_BxTxD + attended_BxTxD, block["norm_attention"], config)
        return normed(x_BxTxD + mlp(x_BxTxD, block["mlp"], config), block["norm_mlp"], config)
    normed_BxTxD = normed(x_BxTxD, block["norm_attention"], config)
    attended_BxTxD = attention(normed_BxTxD, block["attention"], config, layer_index, cached, real)
    if config.parallel_residual:
        mlp_input_BxTxD = normed(x_BxTxD, block["norm_mlp"], config)
        return x_BxTxD + attended_BxTxD + mlp(mlp_input_BxTxD, block["mlp"], config)
    x_BxTxD = (normed_BxTxD if config.residual_after_norm else x_BxTxD) + attended_BxTxD
    normed_BxTxD = normed(x_BxTxD, block["norm_mlp"], config)
    residual_BxTxD = normed_BxTxD if config.residual_after_norm else x_BxTxD
    return residual_BxTxD + mlp(normed_BxTxD, block["mlp"], config)


def hidden_states(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, prefix: Prefix | None = None
) -> Float[Array, "B T D"]:
    """The residual stream after the last norm, which the head reads.

    Causal attention never sees what stands to the right: batches are padded there, with any id,
    and need no attention mask. A masked model sees both sides; its padding is told by its id.

    Args:
        params: parameter tree, blocks stacked on a leading layer axis.
        tokens: token ids, padded on the right: with any valid id, or `PADDING` in a masked model.
        config: the architecture.
        prefix: cached tokens before `tokens`, whose positions follow theirs.

    Returns:
        Hidden states in the params' dtype.

    Raises:
        InputError: `tokens` is longer than the learned position table, or `prefix` does not fit.
    """
    if prefix is not None:
        check_prefix(prefix, config)
    start = 0 if prefix is None else prefix.length
    embedded = embed(params, tokens, config, start)
    real = tokens >= 0 if config.masked else None
    return run_blocks(params, embedded, config, prefix, real)


def embed(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, start: int = 0
) -> Float[Array, "B T D"]:
    """Token embeddings, plus those of positions and token types where they are learned.

    Args:
        params: parameter tree.
        tokens: token ids.
        config: the architecture.
        start: position of the first token.

    Returns:
        What the first block (or the embedding norm) reads.

    Raises:
        InputError: `tokens` is longer than the learned position table.
    """
    length = tokens.shape[1]
    if config.masked:
        tokens = jnp.maximum(tokens, 0)  # padding
    x_BxTxD = params["embed"]["tokens"][tokens]
    if config.token_types:
        x_BxTxD = x_BxTxD + params["embed"]["types"][:1]
    if config.positions != "learned":
        return x_BxTxD
    if start + length > config.context:
        after = f" after a prefix of {start}" if start else ""
        raise InputError(f"`tokens` has {length} positions{after}; the model has {config.context}")
    first = config.position_offset + start
    return x_BxTxD + params["embed"]["positions"][first : first + length]


def run_blocks(
    params: Params,
    x: Float[Array, "B T D"],
    config: ModelConfig,
    prefix: Prefix | None = None,
    real: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """All blocks and norms, from embedded tokens to what the head reads.

    Args:
        params: parameter tree, blocks stacked on a leading layer axis.
        x: embedded tokens.
        config: the architecture.
        prefix: cached tokens before them.
        real: False in padding (masked models only).

    Returns:
        The residual stream after the last norm.
    """
    return final_norm(params, residual_stream(params, x, config, prefix, real), config)


def residual_stream(
    params: Params,
    x: Float[Array, "B T D"],
    config: ModelConfig,
    prefix: Prefix | None = None,
    real: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """`run_blocks` without what follows the last block, which of a masked model few rows need."""
    x = embedding_norm(params, x, config)
    cached = None if prefix is None else (prefix.keys, prefix.values)
    return through_blocks(params["blocks"], jnp.arange(config.layers), x, config, cached, real)


def through_blocks(
    blocks: Params,
    layers: Int[Array, "N"],
    x: Float[Array, "B T D"],
    config: ModelConfig,
    cached: tuple[Float[Array, "N P J K"], Float[Array, "N P J K"]] | None = None,
    real: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """The residual stream after some blocks, one after the other.

    Args:
        blocks: the blocks' params, stacked on a leading axis.
        layers: which layers they are.
        x: the residual stream before the first of them.
        config: the architecture.
        cached: keys and values of a prefix in these layers.
        real: False in padding (masked models only).

    Returns:
        The residual stream.
    """

    def step(
        x_BxTxD: Array, layer: tuple[Params, Array, tuple[Array, Array] | None]
    ) -> tuple[Array, None]:
        block, index, cached = layer
        return block_output(x_BxTxD, block, index, config, cached, real), None

    x, _ = jax.lax.scan(step, x, (blocks, layers, cached))
    return x


def embedding_norm(
    params: Params, x: Float[Array, "*batch D"], config: ModelConfig
) -> Float[Array, "*batch D"]:
    """The norm of embedded tokens, in the families that have one: what the first block reads."""
    return normed(x, params["embed"]["norm"], config) if config.embedding_norm else x


def final_norm(
    params: Params, x: Float[Array, "*batch D"], config: ModelConfig
) -> Float[Array, "*batch D"]:
    """The last norm, in the families that have one; a masked model's dense layer precedes it."""
    if config.masked:
        transformed = project(x, params["head"]["transform"], "btd,de->bte")
        x = ACTIVATIONS[config.head_activation](transformed)
    return normed(x, params["norm"], config) if config.final_norm else x


def unembed(
    params: Params, hidden: Float[Array, "*batch D"], config: ModelConfig
) -> Float[Array, "*batch V"]:
    """Logits of hidden states: the tied or the separate head, biased in a masked model."""
    if config.tied_head:
        logits = product(hidden, params["embed"]["tokens"], "...d,vd->...v")
        return logits + params["head"]["bias"] if config.masked else logits
    return product(hidden, params["head"]["kernel"], "...d,dv->...v")


def forward(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, prefix: Prefix | None = None
) -> Float[Array, "B T V"]:
    """Logits of the next token, of a masked model those of the token itself.

    Args:
        params: parameter tree of `config`'s shapes.
        tokens: [B, T] token ids, padded on the right as in `hidden_states`.
        config: the architecture.
        prefix: cached tokens before `tokens`; the logits of the first of `tokens` itself are
            `unembed(params, prefix.hidden, config)`.

    Returns:
        [B, T, V] logits; position t predicts token t + 1, or t where the model is masked.

    Raises:
        InputError: `tokens` is longer than the learned position table, or `prefix` does not fit.
    """
    return unembed(params, hidden_states(params, tokens, config, prefix), config)


def parameter_shapes(config: ModelConfig) -> Params:
    """The parameter tree of an architecture as `jax.ShapeDtypeStruct`s (float32, no memory).

    Args:
        config: the architecture.

    Returns:
        Nested dict with the layout that `forward` reads.
    """

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.dtype(np.float32))

    def norm(*lead: int) -> Params:
        names = ("scale",) if config.norm == "rms" else ("scale", "bias")
        return {name: array(*lead, D) for name in names}

    def dense(has_bias: bool, kernel: tuple[int, ...], bias: tuple[int, ...]) -> Params:
        return {"kernel": array(*kernel)} | ({"bias": array(*bias)} if has_bias else {})

    L, D, F = config.layers, config.width, config.mlp_width
    H, J, K = config.heads, config.key_heads, config.head_size
    embed: Params = {"tokens": array(config.vocab_size, D)}
    if config.positions == "learned":
        embed["positions"] = array(config.context + config.position_offset, D)
    if config.token_types:
        embed["types"] = array(config.token_types, D)
    if config.embedding_norm:
        embed["norm"] = norm()
    biased = config.attention_bias
    if config.fused_qkv:
        projections = {"qkv": dense(biased, (L, D, 3, H, K), (L, 3, H, K))}
    else:
        heads = {"q": H, "k": J, "v": J}
        projections = {name: dense(biased, (L, D, n, K), (L, n, K)) for name, n in heads.items()}
    into_mlp = ("gate", "up") if config.gated_mlp else ("up",)
    blocks = {
        "attention": projections | {"out": dense(biased and config.out_bias, (L, H, K, D), (L, D))},
        "mlp": {name: dense(config.mlp_bias, (L, D, F), (L, F)) for name in into_mlp}
        | {"down": dense(config.mlp_bias, (L, F, D), (L, D))},
        "norm_attention": norm(L),
        "norm_mlp": norm(L),
    }
    params: Params = {"embed": embed, "blocks": blocks}
    if config.final_norm:
        params["norm"] = norm()
    if not config.tied_head:
        params["head"] = {"kernel": array(D, config.vocab_size)}
    if config.masked:
        params["head"] = {"transform": dense(True, (D, D), (D,)), "bias": array(config.vocab_size)}
    return params


def init_params(key: PRNGKeyArray, config: ModelConfig, scale: float = 0.02) -> Params:
    """GPT-2's initialisation: normal(scale), projections into the residual / sqrt(2 L).

    Args:
        key: random key.
        config: the architecture.
        scale: standard deviation of the weights.

    Returns:
        float32 params; norms are the identity and biases 0.
    """

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct, key: PRNGKeyArray) -> Array:
        names = [entry.key for entry in path]
        if names[-1] == "scale":
            return jnp.ones(shape.shape, shape.dtype)
        if names[-1] == "bias":
            return jnp.zeros(shape.shape, shape.dtype)
        into_residual = names[-2] in ("out", "down")
        deviation = scale / (2 * config.layers) ** 0.5 if into_residual else scale
        return deviation * jax.random.normal(key, shape.shape, shape.dtype)

    shapes = parameter_shapes(config)
    leaves, structure = jax.tree.flatten_with_path(shapes)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([leaf(p, s, k) for (p, s), k in zip(leaves, keys, strict=True)])
