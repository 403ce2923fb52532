"""The programs of a plan, compiled for arrays that do not exist: the compiler says what they take.

Nothing is allocated. What a program needs beside its arguments and results is the compiler's own
figure for the backend that it compiled for.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprotect.evaluation.evaluate import batch_nats, batch_nats_on
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.mesh_shapes import DATA
from jaxprotect.models.meshes import partition
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.masked_statistics import copy_statistics
from jaxprotect.selection.mesh_statistics import add_stacked
from jaxprotect.selection.sensitivity import row_statistics
from jaxprotect.trees import leaf_paths, map_leaves

Shapes = Params
"""A tree of shapes, types and, on a mesh, shardings."""


def stand_ins(count: int) -> list[jax.Device]:
    """Devices to compile for where a mesh is not there: this machine's processor, many times over.

    The default device stays what it was: an accelerator, if there is one. JAX looks for devices
    once, so that this comes before anything is computed.

    Args:
        count: how many.

    Returns:
        The devices.
    """
    named = jax.config.values["jax_platforms"]
    if named and "cpu" not in named.split(","):
        jax.config.update("jax_platforms", f"{named},cpu")
    jax.config.update("jax_num_cpu_devices", count)
    return jax.devices("cpu")[:count]


def placed_shapes(config: ModelConfig, mesh: Mesh | None) -> Shapes:
    """The weights of an architecture as they would lie on a mesh.

    Args:
        config: the architecture.
        mesh: the mesh; None for one device.

    Returns:
        Their shapes.
    """

    def leaf(path: str, of: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = None if mesh is None else partition(path, of.shape, mesh)
        return jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=sharding)

    return map_leaves(leaf, parameter_shapes(config))


def as_flags(shapes: Shapes) -> Shapes:
    """A mask of weights, lying as they do."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bool_, sharding=leaf.sharding), shapes
    )


def held(shapes: Shapes) -> int:
    """Bytes of a tree on one device."""

    def leaf(of: jax.ShapeDtypeStruct) -> int:
        shape = of.shape if of.sharding is None else of.sharding.shard_shape(of.shape)
        return math.prod(shape) * np.dtype(of.dtype).itemsize

    return sum(leaf(of) for of in leaf_paths(shapes).values())


def working_evaluation(
    shapes: Shapes, config: ModelConfig, mesh: Mesh | None, rows: int, length: int
) -> int:
    """Bytes that the nats of a batch take on a device, beside the weights.

    Args:
        shapes: the weights.
        config: the architecture.
        mesh: the mesh; None for one device.
        rows: of the batch, over all devices.
        length: tokens of a row.

    Returns:
        The bytes.
    """
    tokens, scored = (_rows((rows, length + 1), dtype, mesh) for dtype in (jnp.int32, jnp.bool_))
    if mesh is None:
        return _temporary(batch_nats.lower(shapes, tokens, scored, config=config))
    return _temporary(batch_nats_on.lower((shapes, None), tokens, scored, config=config, mesh=mesh))


def working_statistics(
    shapes: Shapes, config: ModelConfig, mesh: Mesh | None, rows: int, length: int
) -> int:
    """Bytes that the statistics of a batch take on a device, beside weights and sums.

    Args:
        shapes: the weights.
        config: the architecture.
        mesh: the mesh; None for one device.
        rows: of the batch of one group of devices.
        length: tokens of a row.

    Returns:
        The bytes.
    """
    row = (rows, length + 1)
    if mesh is not None:
        stack = (mesh.shape[DATA], *row)
        together = (_rows(stack, jnp.int32, mesh), _rows(stack, jnp.bool_, mesh), None)
        add = functools.partial(
            add_stacked.lower, function=row_statistics, config=config, mesh=mesh
        )
        first = add(None, shapes, together)
        total = jax.tree.map(
            lambda of, sharding: jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=sharding),
            first.out_info,
            first.compile().output_shardings,
        )
        return _temporary(add(total, shapes, together))
    tokens, scored = (_rows(row, dtype, None) for dtype in (jnp.int32, jnp.bool_))
    if config.masked:
        draws = _rows((rows,), jnp.float32, None)
        return _temporary(copy_statistics.lower(shapes, tokens, scored, draws, config, drawn=False))
    return _temporary(row_statistics.lower(shapes, tokens, scored, None, config))


def working_quantization(shapes: Shapes, config: ModelConfig, spec: QuantSpec) -> int:
    """Bytes that quantizing takes on a device, beside the weights, the mask and the result.

    Args:
        shapes: the weights.
        config: the architecture.
        spec: the quantizer.

    Returns:
        The bytes.
    """
    return _temporary(quantize_tree.lower(shapes, as_flags(shapes), spec, config))


def _rows(shape: tuple[int, ...], dtype: Any, mesh: Mesh | None) -> jax.ShapeDtypeStruct:
    sharding = None if mesh is None else NamedSharding(mesh, P(DATA))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _temporary(lowered: Any) -> int:
    return int(lowered.compile().memory_analysis().temp_size_in_bytes)
