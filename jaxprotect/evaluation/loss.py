"""Nats per sentence: the loss of scored tokens, without ever holding a batch of logits."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.models.config import ModelConfig, require_causal
from jaxprotect.models.prefix import Prefix, check_prefix
from jaxprotect.models.sharding import split_rows
from jaxprotect.models.transformer import (
    Params,
    embed,
    embedding_norm,
    final_norm,
    through_blocks,
    unembed,
)

LOGITS_AT_ONCE = 3 * 2**22
"""Most logits held at a time (48 MiB in float32); rows are scored in chunks.

Of GPT-2's 50,257 logits these are 250 rows: enough for the product to run at full speed, few enough
for the passes over the logits to find most of them in cache.
"""


def _chunk_rows(rows: int, vocab_size: int) -> int:
    """Rows of a chunk: chunks are equal but for fewer rows of padding than there are chunks."""
    chunks = math.ceil(rows / max(1, LOGITS_AT_ONCE // vocab_size))
    return math.ceil(rows / chunks)


def first_stream(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, prefix: Prefix | None = None
) -> Float[Array, "B I D"]:
    """What the first block reads of a batch: its inputs embedded, and normed where that is due.

    Args:
        params: parameter tree; no block is read.
        tokens: [B, T] token ids as in `sentence_nats`, I of them inputs.
        config: the architecture.
        prefix: cached tokens in the place of column 0.

    Returns:
        The residual stream.

    Raises:
        InputError: `tokens` is longer than the learned position table, or `prefix` does not fit.
    """
    if prefix is not None:
        check_prefix(prefix, config)
    # A causal model reads all but the last column, of which a prefix has replaced the first.
    first, last = int(config.masked or prefix is not None), None if config.masked else -1
    start = 0 if prefix is None else prefix.length
    return embedding_norm(params, embed(params, tokens[:, first:last], config, start), config)


def next_stream(
    blocks: Params,
    layers: Int[Array, "N"],
    stream: Float[Array, "B I D"],
    tokens: Int[Array, "B T"],
    config: ModelConfig,
    prefix: Prefix | None = None,
) -> Float[Array, "B I D"]:
    """The residual stream of a batch after some blocks.

    Args:
        blocks: the blocks' params, stacked on a leading axis.
        layers: which layers they are.
        stream: what the first of them reads.
        tokens: [B, T] token ids as in `sentence_nats`.
        config: the architecture.
        prefix: cached tokens, with the keys and values of these layers.

    Returns:
        The residual stream.
    """
    cached = None if prefix is None else (prefix.keys, prefix.values)
    real = tokens[:, 1:] >= 0 if config.masked else None
    return through_blocks(blocks, layers, stream, config, cached, real)


def _last_stream(
    params: Params, tokens: Array, config: ModelConfig, prefix: Prefix | None = None
) -> Array:
    stream = first_stream(params, tokens, config, prefix)
    layers = jnp.arange(config.layers)
    return next_stream(params["blocks"], layers, stream, tokens, config, prefix)


def token_nats(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, prefix: Prefix | None = None
) -> Float[Array, "B T-1"]:
    """-ln p(tokens[t] | tokens[:t]) for t = 1 .. T-1.

    Args:
        params: parameter tree.
        tokens: [B, T] token ids, start token first, padded on the right.
        config: the architecture.
        prefix: cached tokens in the place of column 0, which is not read.

    Returns:
        [B, T - 1] float32 nats, padding included (mask it).
    """
    require_causal(config, "`token_nats`")
    stream = _last_stream(params, tokens, config, prefix)
    return _token_nats(params, stream, tokens, config, prefix)


def _token_nats(
    params: Params,
    stream_BxIxD: Array,
    tokens_BxT: Array,
    config: ModelConfig,
    prefix: Prefix | None,
) -> Array:
    batch, length = tokens_BxT.shape
    hidden_BxTxD = final_norm(params, stream_BxIxD, config)
    if prefix is not None:
        first_D = prefix.hidden.astype(params["embed"]["tokens"].dtype)
        first_Bx1xD = jnp.broadcast_to(first_D, (batch, 1, config.width))
        hidden_BxTxD = jnp.concatenate([first_Bx1xD, hidden_BxTxD], axis=1)
    hidden_RxD = hidden_BxTxD.reshape(-1, config.width)
    nats_R = target_nats(params, hidden_RxD, tokens_BxT[:, 1:].reshape(-1), config)
    return nats_R.reshape(batch, length - 1)


def target_nats(
    params: Params, hidden: Float[Array, "R D"], targets: Int[Array, "R"], config: ModelConfig
) -> Float[Array, "R"]:
    """-ln p(target) of every row of hidden states.

    The logits of a chunk of rows are made, reduced to one number each and dropped; the backward
    pass makes them again.

    Args:
        params: parameter tree.
        hidden: what the head reads.
        targets: one token id for each row.
        config: the architecture.

    Returns:
        float32 nats.
    """
    hidden_RxD, targets_R = hidden, targets
    rows = targets_R.shape[0]
    chunk = _chunk_rows(rows, config.vocab_size)

    @jax.checkpoint
    def chunk_nats(hidden_CxD: Array, targets_C: Array) -> Array:
        logits_CxV = split_rows(unembed(params, hidden_CxD, config), "model").astype(jnp.float32)
        chosen_C = jnp.take_along_axis(logits_CxV, targets_C[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits_CxV, axis=-1) - chosen_C

    if rows == chunk:
        return chunk_nats(hidden_RxD, targets_R)
    padding = -rows % chunk
    hidden_NxCxD = jnp.pad(hidden_RxD, ((0, padding), (0, 0))).reshape(-1, chunk, config.width)
    targets_NxC = jnp.pad(targets_R, (0, padding)).reshape(-1, chunk)
    nats_NxC = jax.lax.map(lambda args: chunk_nats(*args), (hidden_NxCxD, targets_NxC))
    return nats_NxC.reshape(-1)[:rows]


def masked_hidden(
    params: Params, tokens: Int[Array, "B T"], scored: Bool[Array, "B T"], config: ModelConfig
) -> Float[Array, "B 1 D"]:
    """What a masked model's head reads at the masked token of each copy.

    Args:
        params: parameter tree.
        tokens: masked copies, see `Batch`.
        scored: True in the column of the mask.
        config: the architecture.

    Returns:
        Hidden states; of an empty row those of its first position.
    """
    return _masked_hidden(params, _last_stream(params, tokens, config), scored, config)


def _masked_hidden(
    params: Params, stream_BxIxD: Array, scored_BxT: Array, config: ModelConfig
) -> Array:
    column_B = jnp.argmax(scored_BxT[:, 1:], axis=1)
    stream_Bx1xD = jnp.take_along_axis(stream_BxIxD, column_B[:, None, None], axis=1)
    return final_norm(params, stream_Bx1xD, config)


def stream_nats(
    params: Params,
    stream: Float[Array, "B I D"],
    tokens: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    config: ModelConfig,
    prefix: Prefix | None = None,
) -> Float[Array, "B"]:
    """The nats of a batch whose residual stream has gone through all blocks.

    Args:
        params: parameter tree; no block is read.
        stream: after the last block.
        tokens: as in `sentence_nats`.
        scored: as in `sentence_nats`.
        config: the architecture.
        prefix: as in `sentence_nats`.

    Returns:
        [B] float32 nats, as of `sentence_nats`.
    """
    if config.masked:
        hidden_BxD = _masked_hidden(params, stream, scored, config)[:, 0]
        nats_B = target_nats(params, hidden_BxD, jnp.maximum(tokens[:, 0], 0), config)
        return jnp.where(scored.any(axis=1), nats_B, 0.0)
    nats_BxT = _token_nats(params, stream, tokens, config, prefix)
    return jnp.sum(jnp.where(scored[:, 1:], nats_BxT, 0.0), axis=-1)


def sentence_nats(
    params: Params,
    tokens: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    config: ModelConfig,
    prefix: Prefix | None = None,
) -> Float[Array, "B"]:
    """Sum of -ln p over the scored tokens of each row of a causal model.

    Of a masked model, -ln p(masked token | the rest of the sentence) of each copy: summed over the
    copies of a sentence, its negative pseudo-log-likelihood.

    Args:
        params: parameter tree.
        tokens: [B, T] token ids, padded on the right; masked copies, see `Batch`.
        scored: [B, T] True where the token's own probability counts; column 0 never can.
        config: the architecture.
        prefix: cached tokens in the place of column 0, which is not read.

    Returns:
        [B] nats, summed and not averaged, in float32; 0 of empty rows.

    Source: Salazar et al., Masked Language Model Scoring (ACL 2020, arXiv:1910.14659).
    """
    stream = _last_stream(params, tokens, config, prefix)
    return stream_nats(params, stream, tokens, scored, config, prefix)
