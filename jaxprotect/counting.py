"""Order statistics of all scores of a tree by counting, whatever their distribution.

A histogram of the upper 16 bits of an order-preserving integer key, then one of the lower 16 bits
inside the bin that matters: two passes, a few MiB at a time, counts in 64 bits.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host

CHUNK = 2**18
"""Scores at a time: 1 MiB of float32, a core's cache."""

Leaves = Mapping[str, Array | np.ndarray]
"""Leaf path -> scores."""


def order_keys(scores: Float[np.ndarray, "..."]) -> UInt32[np.ndarray, "..."]:
    """Integers in the order of the floats, on the host: -inf < ... < -0 = 0 < ... < inf.

    Args:
        scores: float32.

    Returns:
        Keys; a < b exactly when the scores are.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(2**31))


def chunks(leaf: Array | np.ndarray) -> Iterator[Float[np.ndarray, "chunk"]]:
    """The scores of a leaf on the host, a chunk at a time, in float32."""
    flat = on_host(leaf).reshape(-1)
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK].astype(np.float32, copy=False)


def not_numbers(path: str) -> InputError:
    """What to raise where scores are NaN."""
    return InputError(f"`scores` at {path} have NaN; every score must be a number")


def _keys(path: str, leaf: Array | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for chunk in chunks(leaf):
        if np.isnan(chunk).any():
            raise not_numbers(path)
        yield chunk, order_keys(chunk)


def kth_by_counting(leaves: Leaves, k: int) -> tuple[int, int, dict[str, int]]:
    """The k-th largest score of all leaves.

    Args:
        leaves: the scores.
        k: 1 to their number.

    Returns:
        Its key, how many scores are larger, and leaf path -> how many are equal.

    Raises:
        InputError: NaN scores, named by leaf.
    """
    return kth_of_read(list(leaves), lambda path: leaves[path], k)


def kth_of_read(
    paths: Sequence[str], read: Callable[[str], Array | np.ndarray], k: int
) -> tuple[int, int, dict[str, int]]:
    """`kth_by_counting` of scores that are read when they are counted, each leaf twice.

    Args:
        paths: the leaves, in the order of their ties.
        read: leaf path -> its scores.
        k: 1 to their number.

    Returns:
        As `kth_by_counting`.

    Raises:
        InputError: NaN scores, named by leaf.
    """
    upper = np.zeros(2**16, np.int64)
    for path in paths:
        for _, keys in _keys(path, read(path)):
            upper += np.bincount(keys >> 16, minlength=2**16)
    upper_bin, above_bin = _from_the_top(upper, k)

    lower = {path: np.zeros(2**16, np.int64) for path in paths}
    for path in paths:
        for _, keys in _keys(path, read(path)):
            inside = keys[keys >> 16 == upper_bin]
            lower[path] += np.bincount(inside & 0xFFFF, minlength=2**16)
    lower_bin, above = _from_the_top(np.sum(list(lower.values()), axis=0), k - above_bin)
    equal = {path: int(counts[lower_bin]) for path, counts in lower.items()}
    return upper_bin << 16 | lower_bin, above_bin + above, equal


def _from_the_top(histogram: Int[np.ndarray, "bins"], k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and how many lie in the bins above it."""
    at_least = np.cumsum(histogram[::-1])[::-1]
    bin_ = int(np.flatnonzero(at_least >= k)[-1])
    return bin_, int(at_least[bin_] - histogram[bin_])


def count_to_reach(leaves: Leaves, need: float) -> float:
    """How many of the largest scores of all leaves sum to a need, with a fraction of the last.

    Sums in float64 beside the counts.

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
        for scores, keys in _keys(path, leaf):
            counts += np.bincount(keys >> 16, minlength=2**16)
            sums += np.bincount(keys >> 16, weights=np.maximum(scores, 0.0), minlength=2**16)
    bin_ = _bin_that_reaches(sums, need)
    if bin_ is None:
        return math.inf
    above, reached = int(counts[bin_ + 1 :].sum()), float(sums[bin_ + 1 :].sum())
    counts, sums = np.zeros(2**16, np.int64), np.zeros(2**16)
    for path, leaf in leaves.items():
        for scores, keys in _keys(path, leaf):
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
