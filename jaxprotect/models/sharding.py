"""What a device of a group must have whole, so that a split model rounds as one device does.

Weights are split along outputs alone: no sum is ever cut into parts, which is what would round
otherwise. For that every device needs all inputs of a product, here gathered from its group.
"""

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

DATA, MODEL = "data", "model"
"""The axes of a mesh."""


def whole(x: Array) -> Array:
    """Every device of a group has all of `x`; nothing happens without a mesh."""
    return x if _alone() else jax.lax.with_sharding_constraint(x, P())


def split_along(x: Array, dimension: int) -> Array:
    """Every device of a group has its part of one dimension, the others whole."""
    if _alone():
        return x
    return jax.lax.with_sharding_constraint(x, P(*(None,) * dimension, MODEL))


def _alone() -> bool:
    return jax.sharding.get_abstract_mesh().empty
