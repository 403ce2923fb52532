"""Nats per sentence: the loss of scored tokens, without ever holding a batch of logits."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.models.config import ModelConfig, require_causal
from jaxprotect.models.prefix import Prefix
from jaxprotect.models.sharding import split_rows
from jaxprotect.models.transformer import (
    Params,
    embed,
    final_norm,
    hidden_states,
    residual_stream,
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


def _hidden_before(
    params: Params, tokens_BxT: Array, config: ModelConfig, prefix: Prefix | None
) -> Array:
    """[B, T - 1, D] hidden states that tokens 1 .. T - 1 are predicted from."""
    if prefix is None:
        return hidden_states(params, tokens_BxT[:, :-1], config)
    first_D = prefix.hidden.astype(params["embed"]["tokens"].dtype)
    first_Bx1xD = jnp.broadcast_to(first_D, (tokens_BxT.shape[0], 1, config.width))
    others_BxTxD = hidden_states(params, tokens_BxT[:, 1:-1], config, prefix)
    return jnp.concatenate([first_Bx1xD, others_BxTxD], axis=1)


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
    batch, length = tokens.shape
    hidden_RxD = _hidden_before(params, tokens, config, prefix).reshape(-1, config.width)
    nats_R = target_nats(params, hidden_RxD, tokens[:, 1:].reshape(-1), config)
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
    inputs_BxT, column_B = tokens[:, 1:], jnp.argmax(scored[:, 1:], axis=1)
    embedded_BxTxD = embed(params, inputs_BxT, config)
    x_BxTxD = residual_stream(params, embedded_BxTxD, config, real=inputs_BxT >= 0)
    x_Bx1xD = jnp.take_along_axis(x_BxTxD, column_B[:, None, None], axis=1)
    return final_norm(params, x_Bx1xD, config)


def masked_nats(
    params: Params, tokens: Int[Array, "B T"], scored: Bool[Array, "B T"], config: ModelConfig
) -> Float[Array, "B"]:
    """-ln p(masked token | the rest of the sentence) of each copy.

    Summed over the copies of a sentence, that is its negative pseudo-log-likelihood.

    Args:
        params: parameter tree.
        tokens: masked copies, see `Batch`.
        scored: True in the column of the mask, nowhere in empty rows.
        config: the architecture.

    Returns:
        [B] float32 nats; 0 of empty rows.

    Source: Salazar et al., Masked Language Model Scoring (ACL 2020, arXiv:1910.14659).
    """
    hidden_BxD = masked_hidden(params, tokens, scored, config)[:, 0]
    nats_B = target_nats(params, hidden_BxD, jnp.maximum(tokens[:, 0], 0), config)
    return jnp.where(scored.any(axis=1), nats_B, 0.0)


def sentence_nats(
    params: Params,
    tokens: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    config: ModelConfig,
    prefix: Prefix | None = None,
) -> Float[Array, "B"]:
    """Sum of -ln p over each row's scored tokens; of a masked model, `masked_nats`.

    Args:
        params: parameter tree.
        tokens: [B, T] token ids, padded on the right.
        scored: [B, T] True where the token's own probability counts; column 0 never can.
        config: the architecture.
        prefix: cached tokens in the place of column 0, which is not read.

    Returns:
        [B] nats, summed and not averaged, in float32.
    """
    if config.masked:
        return masked_nats(params, tokens, scored, config)
    nats_BxT = token_nats(params, tokens, config, prefix)
    return jnp.sum(jnp.where(scored[:, 1:], nats_BxT, 0.0), axis=-1)
