"""Parameter trees by leaf path ("blocks/attention/qkv/kernel"), and exact top-k over a whole tree.

The k-th largest of all scores is found by counting, not sorting: a histogram of the upper 16 bits
of an order-preserving integer key, then one of the lower 16 bits inside the bin that holds the
k-th. Two passes, a few MiB at a time, nothing concatenated, counts in 64 bits, and the result does
not depend on how the leaves are sharded.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxprotect.errors import InputError

CHUNK = 2**21
"""Scores counted at a time: small enough for the cache, large enough for NumPy."""


def _path_string(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_paths(tree: Any) -> dict[str, Any]:
    """Every leaf under its path, keys joined by `/`, in the tree's own (sorted) order.

    Args:
        tree: nested dicts.

    Returns:
        Leaf path -> leaf.

    >>> leaf_paths({"mlp": {"up": 1, "down": 2}})
    {'mlp/down': 2, 'mlp/up': 1}
    """
    return {_path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_leaves(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """A tree of `function(path, leaf, *leaves of rest)`, with the structure of `tree`.

    Args:
        function: called once per leaf, with the leaf's path string first.
        tree: nested dicts.
        rest: trees of the same structure.

    Returns:
        Nested dicts of the results.

    Raises:
        ValueError: the structures differ.

    >>> map_leaves(lambda path, a, b: f"{path}={a + b}", {"up": 1}, {"up": 2})
    {'up': 'up=3'}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(_path_string(path), *leaves), tree, *rest
    )


@struct.dataclass
class Cut:
    """Where the top k of a tree ends.

    Args:
        key: order key of the k-th largest score (see `order_key`).
        ties: leaf path -> how many of its scores equal to the cut are in, first positions first.
    """

    key: UInt32[Array, ""]
    ties: dict[str, Int[Array, ""]]


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


def _chunks(path: str, leaf: Array | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The scores of a leaf and their order keys, a few MiB at a time, on the host; refuses NaN."""
    flat = np.asarray(leaf).reshape(-1)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK].astype(np.float32) + np.float32(0)  # -0 becomes 0
        if np.isnan(chunk).any():
            raise InputError(f"`scores` at {path} have NaN; every score must be a number")
        bits = chunk.view(np.uint32)
        yield chunk, np.where(bits >> 31 == 1, ~bits, bits | np.uint32(2**31))


def _from_the_top(histogram: np.ndarray, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and how many lie in the bins above it."""
    at_least = np.cumsum(histogram[::-1])[::-1]
    bin_ = int(np.flatnonzero(at_least >= k)[-1])
    return bin_, int(at_least[bin_] - histogram[bin_])


def find_cut(
    leaves: Mapping[str, Array | np.ndarray],
    k: int,
    *,
    ties: Literal["position", "all"] = "position",
) -> Cut:
    """Where the k largest scores of all leaves end.

    Args:
        leaves: leaf path -> scores.
        k: how many scores are in, 0 to the total size.
        ties: scores equal to the k-th: take them by leaf path and position until there are
            exactly k, or take all of them.

    Returns:
        The cut; `above_cut` turns it into masks.

    Raises:
        InputError: NaN scores, named by leaf, or k out of range.

    >>> cut = find_cut({"w": jnp.array([3.0, 1.0, 2.0, 2.0])}, 2)
    >>> above_cut({"w": jnp.array([3.0, 1.0, 2.0, 2.0])}, cut)["w"].tolist()
    [True, False, True, False]
    """
    total = sum(leaf.size for leaf in leaves.values())
    if not 0 <= k <= total:
        raise InputError(f"`k` is {k}; the scores are {total}")
    if k == 0:
        nothing = {path: np.int32(0) for path in leaves}
        return Cut(key=jnp.uint32(2**32 - 1), ties=jax.tree.map(jnp.asarray, nothing))

    upper = np.zeros(2**16, np.int64)
    for path, leaf in leaves.items():
        for _, keys in _chunks(path, leaf):
            upper += np.bincount(keys >> 16, minlength=2**16)
    upper_bin, above_bin = _from_the_top(upper, k)

    lower = {path: np.zeros(2**16, np.int64) for path in leaves}
    for path, leaf in leaves.items():
        for _, keys in _chunks(path, leaf):
            inside = keys[keys >> 16 == upper_bin]
            lower[path] += np.bincount(inside & 0xFFFF, minlength=2**16)
    lower_bin, above = _from_the_top(np.sum(list(lower.values()), axis=0), k - above_bin)

    wanted = total if ties == "all" else k - above_bin - above
    taken = {}
    for path, leaf in leaves.items():
        equal = int(lower[path][lower_bin])
        # All of a leaf's ties: its size says so without a running count in `above_cut`.
        taken[path] = leaf.size if wanted >= equal else wanted
        wanted -= min(wanted, equal)
    largest = np.iinfo(np.int32).max
    return Cut(
        key=jnp.uint32(upper_bin << 16 | lower_bin),
        ties={path: jnp.asarray(min(n, largest), jnp.int32) for path, n in taken.items()},
    )


def above_cut(leaves: dict[str, Array], cut: Cut) -> dict[str, Bool[Array, "..."]]:
    """Masks of the scores that are in; pure, and compiled once for any k.

    Args:
        leaves: the scores that `find_cut` saw.
        cut: its result.

    Returns:
        Leaf path -> bool mask; under `ties="position"` exactly k are True over all leaves.
    """

    def one(path: str, leaf: Array) -> Array:
        key, allowed = order_key(leaf), cut.ties[path]
        equal = key == cut.key

        def first_ones() -> Array:
            rank = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(equal.shape)
            return equal & (rank <= allowed)

        none, everyone = allowed <= 0, allowed >= min(leaf.size, np.iinfo(np.int32).max)
        which = jnp.where(none, 0, jnp.where(everyone, 1, 2))
        ties = jax.lax.switch(which, [lambda: jnp.zeros_like(equal), lambda: equal, first_ones])
        return (key > cut.key) | ties

    return {path: one(path, leaf) for path, leaf in leaves.items()}


def count_to_reach(leaves: Mapping[str, Array | np.ndarray], need: float) -> float:
    """How many of the largest scores of all leaves sum to a need, with a fraction of the last.

    Two passes like those of `find_cut`, with sums in float64 beside the counts.

    Args:
        leaves: leaf path -> scores; only positive ones add to the sum.
        need: the sum.

    Returns:
        The count; 0 for a need of at most 0, infinite if all positive scores are not enough.

    Raises:
        InputError: NaN scores, named by leaf.

    >>> count_to_reach({"w": np.array([3.0, -1.0, 2.0, 2.0])}, 6.0)
    2.5
    """
    if need <= 0:
        return 0.0
    counts, sums = np.zeros(2**16, np.int64), np.zeros(2**16)
    for path, leaf in leaves.items():
        for scores, keys in _chunks(path, leaf):
            counts += np.bincount(keys >> 16, minlength=2**16)
            sums += np.bincount(keys >> 16, weights=np.maximum(scores, 0.0), minlength=2**16)
    bin_ = _bin_that_reaches(sums, need)
    if bin_ is None:
        return math.inf
    above, reached = int(counts[bin_ + 1 :].sum()), float(sums[bin_ + 1 :].sum())
    counts, sums = np.zeros(2**16, np.int64), np.zeros(2**16)
    for path, leaf in leaves.items():
        for scores, keys in _chunks(path, leaf):
            inside = keys >> 16 == bin_
            low, values = keys[inside] & 0xFFFF, np.maximum(scores[inside], 0.0)
            counts += np.bincount(low, minlength=2**16)
            sums += np.bincount(low, weights=values, minlength=2**16)
    last = _bin_that_reaches(sums, need - reached)
    if last is None:  # the two passes add up in another order
        last = int(np.flatnonzero(sums)[0])
    above, reached = above + int(counts[last + 1 :].sum()), reached + float(sums[last + 1 :].sum())
    each = sums[last] / counts[last]  # equal scores share a key
    return above + min(max(need - reached, 0.0) / each, float(counts[last]))


def _bin_that_reaches(sums: np.ndarray, need: float) -> int | None:
    """The first bin from the top by which the sum reaches the need."""
    reached = np.flatnonzero(np.cumsum(sums[::-1]) >= need)
    return int(len(sums) - 1 - reached[0]) if reached.size else None
