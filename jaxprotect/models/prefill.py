"""tokens -> their cached prefix: one run of the full precision model."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig, require_causal
from jaxprotect.models.layers import normed, queries_keys_values
from jaxprotect.models.prefix import Prefix, check_prefix_length
from jaxprotect.models.transformer import Params, block_output, embed, embedding_norm, final_norm


def prefill(
    params: Params, tokens: Int[Array, "B P"], config: ModelConfig
) -> tuple[Float[Array, "B L P J K"], Float[Array, "B L P J K"], Float[Array, "B D"]]:
    """Keys, values and last hidden states of rows of tokens.

    Args:
        params: parameter tree.
        tokens: token ids, without padding.
        config: the architecture.

    Returns:
        Keys and values of every block, and the residual stream after the last norm at the last
        token: the arrays of a `Prefix`, one for each row.

    Raises:
        InputError: `tokens` is longer than the learned position table, or the model is masked.
    """
    require_causal(config, "a cached prefix")
    x_BxPxD = embedding_norm(params, embed(params, tokens, config), config)

    def step(x_BxPxD: Array, layer: tuple[Params, Array]) -> tuple[Array, tuple[Array, Array]]:
        block, index = layer
        normed_BxPxD = normed(x_BxPxD, block["norm_attention"], config)
        _, keys, values = queries_keys_values(normed_BxPxD, block["attention"], config, index)
        return block_output(x_BxPxD, block, index, config), (keys, values)

    layers = (params["blocks"], jnp.arange(config.layers))
    x_BxPxD, (keys, values) = jax.lax.scan(step, x_BxPxD, layers)
    hidden_BxD = final_norm(params, x_BxPxD[:, -1], config)
    return keys.swapaxes(0, 1), values.swapaxes(0, 1), hidden_BxD


_prefill = jax.jit(prefill, static_argnames="config")


def make_prefix(params: Params, tokens: Sequence[int], config: ModelConfig) -> Prefix:
    """The cache of a prefix as the given model computes it.

    Computed with full precision weights and used with quantized ones, it spares the pivot tokens,
    to which every later token attends, the error of quantization.

    Args:
        params: full precision parameter tree.
        tokens: ids of the prefix, in order; usually the start token among them.
        config: the architecture.

    Returns:
        The prefix, in the params' dtype.

    Raises:
        InputError: no token, a token id that the model does not have, or so many tokens that no
            position is left for text.

    Source: Liu et al., IntactKV (arXiv:2403.01241); Chen et al., PrefixQuant (arXiv:2410.05265).
    """
    ids = tuple(int(token) for token in tokens)
    check_prefix_length(len(ids), config)
    unknown = [token for token in ids if not 0 <= token < config.vocab_size]
    if unknown:
        raise InputError(
            f"`tokens` has the id {unknown[0]}; the model's ids are 0 to {config.vocab_size - 1}"
        )
    keys, values, hidden = _prefill(params, jnp.asarray([ids], jnp.int32), config=config)
    return Prefix(keys=keys[0], values=values[0], hidden=hidden[0], tokens=ids)
