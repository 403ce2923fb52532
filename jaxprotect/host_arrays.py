"""Arrays that lie on the devices of several hosts, read by each of them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprotect import hosts
from jaxprotect.trees import leaf_paths

AT_ONCE = 2**28
"""Bytes of an array that every device holds whole while it is read."""


def array_of_parts(
    shape: tuple[int, ...],
    sharding: NamedSharding,
    read: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
    """An array on a mesh, of which this host reads what its devices hold.

    Args:
        shape: of the whole.
        sharding: who holds what.
        read: index -> that part; called once for each, however many devices repeat it.

    Returns:
        The array.
    """
    parts: dict[str, np.ndarray] = {}

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        if str(index) not in parts:
            parts[str(index)] = read(index)
        return parts[str(index)]

    return jax.make_array_from_callback(shape, sharding, part)


def is_here(array: Any) -> bool:
    """Whether this host's devices hold all of an array."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return True
    sharding = array.sharding
    everywhere = sharding.devices_indices_map(array.shape)
    here = sharding.addressable_devices_indices_map(array.shape)
    return {str(index) for index in here.values()} == {str(of) for of in everywhere.values()}


def on_host(array: Any) -> np.ndarray:
    """An array's numbers in this host's memory, wherever its devices are.

    Where they are on other hosts too, all hosts must ask at the same point of the program; no
    device ever holds more than a slice of the whole.

    Args:
        array: a JAX or NumPy array.

    Returns:
        All of it.
    """
    if is_here(array):
        return np.asarray(array)
    mesh = array.sharding.mesh
    return _by_rows(array, lambda part: np.asarray(_whole(part, mesh)))


def here(array: Any) -> Any:
    """An array that this host computes with alone: itself, unless other hosts have it too."""
    alone = not isinstance(array, jax.Array) or array.is_fully_addressable
    return array if alone else on_host(array)


def told_tree(read: Callable[[], dict]) -> dict:
    """Nested dicts of arrays that the first host reads, on every host.

    Args:
        read: called on the first host alone.

    Returns:
        The arrays, in every host's memory.

    Raises:
        InputError: what it raised, on every host.
    """
    if not hosts.several():
        return read()
    mine: dict[str, Any] = {}

    def layout() -> dict[str, tuple[tuple[int, ...], str]]:
        mine.update(leaf_paths(read()))
        return {path: (leaf.shape, str(leaf.dtype)) for path, leaf in mine.items()}

    tree: dict = {}
    for path, (shape, dtype) in hosts.told(layout).items():
        leaf = np.asarray(mine[path]) if path in mine else np.zeros(shape, np.dtype(dtype))
        *parents, name = path.split("/")
        node = functools.reduce(lambda of, key: of.setdefault(key, {}), parents, tree)
        node[name] = _by_rows(leaf, hosts.told_array)
    return tree


def _by_rows(array: Any, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    """What `read` makes of an array, so many of its rows at a time as `AT_ONCE` allows."""
    size = math.prod(array.shape) * array.dtype.itemsize
    if size <= AT_ONCE or array.ndim == 0 or array.shape[0] == 1:
        return read(array)
    rows = max(1, AT_ONCE * array.shape[0] // size)
    starts = range(0, array.shape[0], rows)
    return np.concatenate([read(array[start : start + rows]) for start in starts])


@functools.partial(jax.jit, static_argnames="mesh")
def _whole(part: jax.Array, mesh: Mesh) -> jax.Array:
    return jax.lax.with_sharding_constraint(part, NamedSharding(mesh, P()))
