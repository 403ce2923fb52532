"""Exact top-k over a whole tree: where it ends, and the masks of what is in.

The k-th largest of all scores is bracketed by a sample; one pass counts what lies above the bracket
and keeps the few scores inside it, of which the k-th is then picked. Where the bracket fails, or
holds too many (ties), counting finds it instead, as it does on accelerators. Nothing is
concatenated, and the result depends neither on the sample nor on how the leaves are sharded.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int, UInt32

from jaxprotect.counting import Leaves, chunks, kth_by_counting, not_numbers, order_keys
from jaxprotect.device_counting import is_elsewhere, kth_on_device, order_key
from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host

SAMPLE = 2**18
"""Scores drawn to bracket the k-th largest."""

INSIDE = 2**22
"""Most scores kept of a bracket (16 MiB)."""

SPREADS = 5.0
"""Half the bracket in standard deviations of the sample's rank."""


@struct.dataclass
class Cut:
    """Where the top k of a tree ends.

    Args:
        key: order key of the k-th largest score (see `order_key`).
        ties: leaf path -> how many of its scores equal to the cut are in, first positions first.
    """

    key: UInt32[Array, ""]
    ties: dict[str, Int[Array, ""]]


def find_cut(
    leaves: Leaves,
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
        return empty_cut(leaves)
    if is_elsewhere(leaves):
        found = kth_on_device(leaves, k)
    else:
        found = _kth_in_bracket(leaves, k, total) or kth_by_counting(leaves, k)
    key, above, equal = found
    sizes = {path: leaf.size for path, leaf in leaves.items()}
    return cut_at(key, equal, sizes, total if ties == "all" else k - above)


def empty_cut(paths: Iterable[str]) -> Cut:
    """The cut that no score is above."""
    return Cut(key=jnp.uint32(2**32 - 1), ties={path: jnp.int32(0) for path in paths})


def cut_at(key: int, equal: dict[str, int], sizes: dict[str, int], wanted: int) -> Cut:
    """The cut at a score, with some of the scores that are equal to it.

    Args:
        key: order key of the score.
        equal: leaf path -> how many scores are equal, first leaves first.
        sizes: leaf path -> how many scores there are.
        wanted: how many of the equal ones are in.

    Returns:
        The cut.
    """
    taken = {}
    for path, count in equal.items():
        # All of a leaf's ties: its size says so without a running count in `above_cut`.
        taken[path] = sizes[path] if wanted >= count else wanted
        wanted -= min(wanted, count)
    largest = np.iinfo(np.int32).max
    return Cut(
        key=jnp.uint32(key),
        ties={path: jnp.asarray(min(n, largest), jnp.int32) for path, n in taken.items()},
    )


def _kth_in_bracket(leaves: Leaves, k: int, total: int) -> tuple[int, int, dict[str, int]] | None:
    """As `kth_by_counting`, in one pass; None if the bracket fails."""
    low, high = _bracket(leaves, k, total)
    few_above = 2 * k <= total

    def scan(task: tuple[str, np.ndarray]) -> tuple[int, np.ndarray]:
        """How many scores are above the bracket, and those inside."""
        path, chunk = task
        # What lies on the far side is only counted; together they are all, or there is a NaN.
        near = chunk[chunk >= low] if few_above else chunk[chunk <= high]
        far = int(np.count_nonzero(chunk < low if few_above else chunk > high))
        if near.size + far != chunk.size:
            raise not_numbers(path)
        if few_above:
            return int(np.count_nonzero(near > high)), near[near <= high]
        return far, near[near >= low]

    above, kept = 0, 0
    inside: dict[str, list[np.ndarray]] = {path: [] for path in leaves}
    tasks = [(path, chunk) for path, leaf in leaves.items() for chunk in chunks(leaf)]
    with ThreadPoolExecutor() as pool:
        for (path, _), (higher, between) in zip(tasks, pool.map(scan, tasks), strict=True):
            above += higher
            kept += between.size
            if kept <= INSIDE:
                inside[path].append(between)
    rank = k - above
    if kept > INSIDE or not 1 <= rank <= kept:
        return None
    of_leaf = {path: np.concatenate(parts) for path, parts in inside.items() if parts}
    everything = np.concatenate(list(of_leaf.values()))
    value = np.partition(everything, kept - rank)[kept - rank]
    above += int(np.count_nonzero(everything > value))
    equal = {
        path: int(np.count_nonzero(of_leaf[path] == value)) if path in of_leaf else 0
        for path in leaves
    }
    return int(order_keys(np.asarray(value))), above, equal


def _bracket(leaves: Leaves, k: int, total: int) -> tuple[np.float32, np.float32]:
    """Two scores that very likely have the k-th largest between them."""
    generator = np.random.default_rng(0)
    drawn = []
    for leaf in leaves.values():
        flat = on_host(leaf).reshape(-1)
        size = -(-flat.size * SAMPLE // total)
        drawn.append(flat[generator.integers(flat.size, size=size)] if size else flat)
    sample = np.concatenate(drawn).astype(np.float32)
    sample = -np.sort(-sample[~np.isnan(sample)])  # the pass that follows names the leaf
    rank = k / total * sample.size
    reach = SPREADS * (rank * (1 - k / total)) ** 0.5 + SPREADS
    first, last = int(rank - reach), int(rank + reach) + 1
    high = sample[first] if first >= 0 and rank > reach else np.float32(np.inf)
    low = sample[last] if last < sample.size else np.float32(-np.inf)
    return low, high


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
