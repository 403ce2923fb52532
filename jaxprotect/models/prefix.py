"""A cached prefix: the keys and values of tokens that stand before every text.

L layers, P prefix tokens, J heads of keys and values, K head size, D width.
"""

import math
from dataclasses import replace

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig, require_causal


@struct.dataclass
class Prefix:
    """What a model needs of the tokens before a text, so that it need not compute them.

    The text's first token is predicted from `hidden`; all others attend to `keys` and `values`.

    Args:
        keys: [L, P, J, K] keys of every block, rotated where positions are rotary.
        values: [L, P, J, K] values.
        hidden: [D] the residual stream after the last norm, at the last prefix token.
        tokens: ids of the P tokens; empty where they are learned and so no tokens at all.
    """

    keys: Float[Array, "L P J K"]
    values: Float[Array, "L P J K"]
    hidden: Float[Array, "D"]
    tokens: tuple[int, ...] = struct.field(pytree_node=False, default=())

    @property
    def length(self) -> int:
        """P, the positions that it takes."""
        return self.keys.shape[1]


def check_prefix_length(length: int, config: ModelConfig) -> None:
    """Refuse a prefix that is empty or leaves no position for text.

    Args:
        length: P.
        config: the architecture.

    Raises:
        InputError: P outside 1 to context - 1.
    """
    require_causal(config, "a cached prefix")
    if not 1 <= length < config.context:
        raise InputError(
            f"`prefix` has {length} tokens; allowed are 1 to {config.context - 1}, which leaves "
            f"text a position in the context of {config.context}"
        )


def check_prefix(prefix: Prefix, config: ModelConfig) -> None:
    """Refuse a prefix of another architecture, or of an impossible length.

    Args:
        prefix: the prefix.
        config: the architecture.

    Raises:
        InputError: shapes that are not the architecture's, or P outside 1 to context - 1.
    """
    L, J, K, D = config.layers, config.key_heads, config.head_size, config.width
    check_prefix_length(prefix.length, config)
    for name, leaf in (("keys", prefix.keys), ("values", prefix.values)):
        shape, allowed = tuple(leaf.shape), (L, prefix.length, J, K)
        if shape != allowed:
            raise InputError(f"`prefix` has {name} of shape {shape}; allowed is {allowed}")
    if prefix.hidden.shape != (D,):
        shape = tuple(prefix.hidden.shape)
        raise InputError(f"`prefix` has a hidden state of shape {shape}; allowed is ({D},)")


def round_prefix(prefix: Prefix, dtype: str = "float16") -> Prefix:
    """The prefix as it is after being stored in `dtype`, in its own dtype.

    Args:
        prefix: the prefix.
        dtype: a float type.

    Returns:
        The rounded prefix.

    Raises:
        InputError: a value beyond the range of `dtype`.
    """

    def rounded(leaf: Array) -> Array:
        return leaf.astype(dtype).astype(leaf.dtype)

    made = replace(
        prefix,
        keys=rounded(prefix.keys),
        values=rounded(prefix.values),
        hidden=rounded(prefix.hidden),
    )
    leaves = (made.keys, made.values, made.hidden)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in leaves):
        raise InputError(f"`prefix` has values that {dtype} cannot hold")
    return made


def prefix_bytes(prefix: Prefix, dtype: str = "float16") -> int:
    """(2 L P J K + D) values of the size of `dtype`: what storing a prefix costs.

    Args:
        prefix: the prefix, or one of `jax.ShapeDtypeStruct`s.
        dtype: how it is stored.

    Returns:
        Bytes.
    """
    shapes = (prefix.keys.shape, prefix.values.shape, prefix.hidden.shape)
    return sum(map(math.prod, shapes)) * jnp.dtype(dtype).itemsize
