"""What a device of a group must have whole, so that a split model rounds as one device does.

Weights are split along outputs alone: no sum is ever cut into parts, which is what would round
otherwise. For that every device needs all inputs of a product, here gathered from its group.
"""

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array


def whole(x: Array) -> Array:
    """Every device of a group has all of `x`; nothing happens without a mesh."""
    return x if _alone() else jax.lax.with_sharding_constraint(x, P())


def split_rows(x: Array, axis: str) -> Array:
    """[rows, ...] with whole rows, of which every device of a group has some."""
    return x if _alone() else jax.lax.with_sharding_constraint(x, P(axis))


def _alone() -> bool:
    return jax.sharding.get_abstract_mesh().empty
