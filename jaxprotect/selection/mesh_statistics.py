"""Statistics on a mesh: each group of devices takes a whole batch, and their sums keep its order.

No sum over sentences is cut in another place than on one device, and batches are added in the order
in which one device would: statistics differ from its own by the last digit of a product alone.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.mesh_shapes import DATA
from jaxprotect.models.meshes import by_rows, constrained, everywhere, on_rows
from jaxprotect.models.transformer import Params
from jaxprotect.selection.rows import RowBatch
from jaxprotect.selection.statistics import Statistics, add

BatchArrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Token ids, scored flags, and draws of labels: the arrays of a batch."""


def at_once(batches: Sequence[RowBatch], groups: int) -> Iterator[list[RowBatch]]:
    """Neighbouring batches of one shape, as many as there are groups of devices, or fewer.

    >>> ones = [RowBatch(tokens=np.ones((n, 3), np.int32), scored=np.ones((n, 3), bool),
    ...         uniform=np.ones((n, 2), np.float32), rows=n) for n in (2, 2, 2, 1)]
    >>> [len(together) for together in at_once(ones, 2)]
    [2, 1, 1]
    """
    together: list[RowBatch] = []
    for batch in batches:
        full = len(together) == groups
        if together and (full or batch.tokens.shape != together[0].tokens.shape):
            yield together
            together = []
        together.append(batch)
    if together:
        yield together


def add_batches(
    total: Statistics | None,
    params: Params,
    batches: Sequence[BatchArrays],
    function: Callable[..., Statistics],
    *,
    config: ModelConfig,
    mesh: Mesh,
) -> Statistics:
    """`total` and the statistics of some batches, one per group of devices, added in their order.

    Args:
        total: of the batches before, which is used up; None if there are none.
        params: the parameter tree, on the mesh.
        batches: of one shape, at most as many as there are groups; empty ones are put after them.
        function: (params, tokens, scored, draws, config) -> statistics of one batch.
        config: the architecture.
        mesh: the mesh.

    Returns:
        The sum, on the mesh like the params.
    """
    empty = mesh.shape[DATA] - len(batches)

    def stacked(*arrays: np.ndarray) -> jax.Array:
        filled = np.concatenate(
            [np.stack(arrays), np.zeros((empty, *arrays[0].shape), arrays[0].dtype)]
        )
        return on_rows(filled, mesh)

    together = jax.tree.map(stacked, *batches)
    return add_stacked(total, params, together, function=function, config=config, mesh=mesh)


@functools.partial(jax.jit, static_argnames=("function", "config", "mesh"), donate_argnames="total")
def add_stacked(
    total: Statistics | None,
    params: Params,
    together: Any,
    *,
    function: Callable[..., Statistics],
    config: ModelConfig,
    mesh: Mesh,
) -> Statistics:
    """As `add_batches`, of arrays [groups, ...] that lie on the mesh."""

    def own(params: Params, together: Any) -> Statistics:
        batch = jax.tree.map(lambda array: array[0], together)
        return jax.tree.map(lambda leaf: leaf[None], function(params, *batch, config))

    parts = by_rows(own, mesh)(params, together)
    for group in range(mesh.shape[DATA]):
        part = jax.tree.map(lambda leaf, group=group: leaf[group], parts)
        total = part if total is None else add(total, part)
    assert total is not None
    return replace(
        total,
        gradient=constrained(total.gradient, mesh),
        absolute=constrained(total.absolute, mesh),
        square=constrained(total.square, mesh),
        inputs=jax.tree.map(lambda leaf: everywhere(leaf, mesh), total.inputs),
    )
