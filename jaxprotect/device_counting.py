"""The k-th largest score of a tree where the scores lie: on an accelerator, or on several.

The order key is found four bits at a time, from the top: how many keys reach each of 15 thresholds
is counted in one pass. Only counts leave the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxprotect.counting import Leaves, not_numbers
from jaxprotect.host_arrays import is_here

BITS = 4
"""Bits of the key per pass: 8 passes in all."""


def order_key(scores: Float[Array, "..."]) -> UInt32[Array, "..."]:
    """Integers in the order of the floats: -inf < ... < -0 = 0 < ... < inf.

    Args:
        scores: any float dtype of at most 32 bits.

    Returns:
        uint32 keys; a < b exactly when the scores are.
    """
    exact = scores.astype(jnp.float32)
    exact = jnp.where(exact == 0, jnp.float32(0), exact)
    bits = jax.lax.bitcast_convert_type(exact, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(2**31))


def is_elsewhere(leaves: Leaves) -> bool:
    """Whether a leaf lies on a device that is not the CPU, or on another host."""
    arrays = [leaf for leaf in leaves.values() if isinstance(leaf, jax.Array)]
    far = any(device.platform != "cpu" for leaf in arrays for device in leaf.devices())
    return far or not all(is_here(leaf) for leaf in arrays)


def kth_on_device(leaves: Leaves, k: int) -> tuple[int, int, dict[str, int]]:
    """The k-th largest score of all leaves; as `counting.kth_by_counting`.

    Args:
        leaves: the scores, sharded or not; at most 2^31 in each leaf.
        k: 1 to their number.

    Returns:
        Its key, how many scores are larger, and leaf path -> how many are equal.

    Raises:
        InputError: NaN scores, named by leaf.
    """
    for path, leaf in leaves.items():
        if bool(_has_nan(jnp.asarray(leaf))):
            raise not_numbers(path)
    key = 0
    for shift in range(32 - BITS, -1, -BITS):
        steps = [key + (digit << shift) for digit in range(1, 2**BITS)]
        reached = sum(_counts(leaf, steps) for leaf in leaves.values())
        key += int(np.count_nonzero(np.asarray(reached) >= k)) << shift
    above, equal = 0, {}
    for path, leaf in leaves.items():
        at_least, higher = map(int, _counts(leaf, [key, min(key + 1, 2**32 - 1)]))
        above += higher
        equal[path] = at_least - higher
    return key, above, equal


def _counts(leaf: Array | np.ndarray, thresholds: list[int]) -> Int[np.ndarray, "J"]:
    reached = _reach(jnp.asarray(leaf), jnp.asarray(np.array(thresholds, np.uint32)))
    return np.asarray(reached).astype(np.int64)


@jax.jit
def _has_nan(leaf: Array) -> Array:
    return jnp.isnan(leaf).any()


@jax.jit
def _reach(leaf: Float[Array, "..."], thresholds: UInt32[Array, "J"]) -> Int[Array, "J"]:
    """How many keys reach each threshold; sums apart, which a compiler makes in one pass."""
    keys = order_key(leaf)
    return jnp.stack([jnp.sum(keys >= threshold, dtype=jnp.int32) for threshold in thresholds])
