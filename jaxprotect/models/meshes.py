"""Where parameters lie on several devices: meshes, and who holds which part of each leaf.

The mesh has two axes. Along `model` every matrix is split by its outputs, so that no sum is cut
into parts and everything rounds as on one device; along `data` all is repeated, and each repeat
works on other sentences. What lies on a mesh is computed on it: the mesh is read off the
parameters, so that no function needs an argument for it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprotect.errors import InputError
from jaxprotect.free_memory import device_bytes
from jaxprotect.hosts import told
from jaxprotect.models.axes import AXES, contracted_axes, is_matrix
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.mesh_shapes import (
    DATA,
    MODEL,
    MeshShape,
    check_mesh,
    choose_shape,
    parse_mesh,
)
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.trees import leaf_paths, map_leaves

SPLIT = ("heads", "key_heads", "mlp", "vocab", "embed")
"""Logical axes that are split along `model` where they are outputs of a matrix."""


def make_mesh(
    config: ModelConfig,
    shape: MeshShape | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of the devices.

    Args:
        config: the architecture.
        shape: of the mesh; chosen by `choose_shape` if not given.
        devices: all of this job's by default.

    Returns:
        The mesh, axes `data` and `model`.

    Raises:
        InputError: see `check_mesh`.
    """
    devices = jax.devices() if devices is None else devices
    if shape is None:
        shape = choose_shape(config, len(devices), told(device_bytes))
    check_mesh(shape, config, len(devices))
    axes = (shape.data, shape.model)
    return jax.make_mesh(axes, (DATA, MODEL), (AxisType.Auto,) * 2, devices=devices)


def partition(path: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Which device holds which part of a leaf.

    Args:
        path: leaf path, a key of `AXES`.
        shape: of the leaf.
        mesh: the mesh.

    Returns:
        The sharding; axes that `model` does not divide are repeated.
    """
    ways = mesh.shape[MODEL]
    split = [
        MODEL if name in SPLIT and size % ways == 0 and axis not in contracted_axes(path) else None
        for axis, (name, size) in enumerate(zip(AXES[path], shape, strict=True))
    ]
    return NamedSharding(mesh, P(*(split if is_matrix(path) else ())))


def place(params: Params, mesh: Mesh) -> Params:
    """Put a tree of params, or one like it, on a mesh."""
    return map_leaves(
        lambda path, leaf: jax.device_put(leaf, partition(path, leaf.shape, mesh)), params
    )


def constrained(tree: Params, mesh: Mesh) -> Params:
    """Under jit: a tree like the params, lying on a mesh as they do."""
    return map_leaves(
        lambda path, leaf: jax.lax.with_sharding_constraint(
            leaf, partition(path, leaf.shape, mesh)
        ),
        tree,
    )


def on_mesh(model: Model, shape: MeshShape | str | None = None) -> Model:
    """A model whose weights lie on all devices; whatever is computed from it follows them.

    Args:
        model: the model, not packed.
        shape: such as `data=4,model=2`; by default as few devices per copy of the weights as
            have room for it.

    Returns:
        The model on a mesh; the model itself if there is one device.

    Raises:
        InputError: a packed or masked model, or a mesh that does not fit the devices or the model.
    """
    if any(path not in AXES for path in leaf_paths(model.params)):
        if shape is not None:
            raise _on_one_device(shape, "packed")
        return model
    mesh = mesh_for(model.config, shape)
    return model if mesh is None else replace(model, params=place(model.params, mesh))


def mesh_for(
    config: ModelConfig,
    shape: MeshShape | str | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh | None:
    """The mesh that a model of an architecture is put on.

    Args:
        config: the architecture.
        shape: as for `on_mesh`.
        devices: all of this job's by default.

    Returns:
        The mesh; None if there is one device, or if the model is masked.

    Raises:
        InputError: a shape for a masked model, or one that does not fit the devices or the model.
    """
    if config.masked:
        if shape is not None:
            raise _on_one_device(shape, "masked")
        return None
    mesh = make_mesh(config, parse_mesh(shape) if isinstance(shape, str) else shape, devices)
    return None if mesh.size == 1 else mesh


def _on_one_device(shape: MeshShape | str, kind: str) -> InputError:
    return InputError(f"`mesh` is {shape}; {kind} models run on one device")


def mesh_of(params: Any) -> Mesh | None:
    """The mesh that a tree lies on; None for one device."""
    for leaf in jax.tree.leaves(params):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
            return sharding.mesh if DATA in sharding.mesh.axis_names else None
    return None


def padded_rows(array: np.ndarray, mesh: Mesh) -> np.ndarray:
    """[rows, ...] with rows of zeros after them, as many as groups of devices need."""
    missing = -array.shape[0] % mesh.shape[DATA]
    return np.pad(array, ((0, missing), *((0, 0) for _ in array.shape[1:])))


def on_rows(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Put [rows, ...] on a mesh, its rows split along `data`."""
    sharding = NamedSharding(mesh, P(DATA))
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def everywhere(array: jax.Array, mesh: Mesh) -> jax.Array:
    """Under jit: the whole array on every device, so that every host can read it."""
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, P()))


def by_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(params, *rows)`, each group of devices on its own rows.

    Every group runs the program that one device would, so that along `data` nothing is rounded
    otherwise.

    Args:
        function: rows in, rows out.
        mesh: the mesh, which divides the rows.

    Returns:
        A function of the same arguments.
    """

    @functools.wraps(function)
    def split(params: Params, *rows: Any) -> Any:
        specs = (P(), *(P(DATA) for _ in rows))
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=specs,
            out_specs=P(DATA),
            axis_names={DATA},
            check_vma=False,
        )(params, *rows)

    return split
