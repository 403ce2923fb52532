"""Where parameters lie on several devices: meshes, and who holds which part of each leaf.

The mesh has two axes. Along `model` every matrix is split by its outputs, so that no sum is cut
into parts and everything rounds as on one device; along `data` all is repeated, and each repeat
works on other sentences. What lies on a mesh is computed on it: the mesh is read off the
parameters, so that no function needs an argument for it.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprotect.errors import InputError
from jaxprotect.models.axes import AXES, contracted_axes, is_matrix
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.trees import leaf_paths, map_leaves

DATA, MODEL = "data", "model"

SPLIT = ("heads", "key_heads", "mlp", "vocab", "embed")
"""Logical axes that are split along `model` where they are outputs of a matrix."""

MUST_SPLIT = ("heads", "mlp")
"""Those that it has to divide: the work of every block."""

COPIES = 8
"""Trees of the size of the params that a step may hold: weights, and the three sums of statistics
of what is finished and of a batch."""


@dataclass(frozen=True, kw_only=True)
class MeshShape:
    """How many devices along each axis.

    Args:
        data: groups of devices that work on different sentences.
        model: devices that share one copy of the weights.
    """

    data: int
    model: int

    def __str__(self) -> str:
        return f"data={self.data},model={self.model}"


def parse_mesh(text: str) -> MeshShape:
    """`data=4,model=2`, in any order; an axis that is left out is 1.

    Args:
        text: as on a command line.

    Returns:
        The shape.

    Raises:
        InputError: anything else.

    >>> parse_mesh("model=2")
    MeshShape(data=1, model=2)
    """
    found = re.fullmatch(r"(data|model)=(\d{1,6})(?:,(data|model)=(\d{1,6}))?", text.strip())
    sizes: dict[str, int] = {}
    if found:
        pairs = [(found[1], found[2]), (found[3], found[4])]
        sizes = {name: int(size) for name, size in pairs if name}
    doubled = found is not None and found[1] == found[3]
    if not sizes or doubled or min(sizes.values()) < 1:
        raise InputError(f"`mesh` is {text!r}; allowed is such as data=4,model=2, each at least 1")
    return MeshShape(data=sizes.get(DATA, 1), model=sizes.get(MODEL, 1))


def check_mesh(shape: MeshShape, config: ModelConfig, devices: int) -> None:
    """Refuse a mesh that the devices or the model cannot fill.

    Args:
        shape: the mesh.
        config: the architecture.
        devices: how many there are.

    Raises:
        InputError: it has another number of devices, or does not divide heads or MLP width.
    """
    wanted = shape.data * shape.model
    if wanted != devices:
        raise InputError(
            f"`mesh` is {shape}, which is {wanted} devices; there are {devices}: allowed is any "
            f"data=N,model=M with N * M = {devices}"
        )
    for axis, size in _split_sizes(config).items():
        if size % shape.model:
            raise InputError(
                f"`mesh` has model={shape.model}, which does not divide the model's {size} "
                f"{axis}; allowed are {_listed(_model_sizes(config, devices))}"
            )


def choose_shape(config: ModelConfig, devices: int, memory: int | None) -> MeshShape:
    """The mesh with the fewest devices per copy of the weights that has room for a step.

    Args:
        config: the architecture.
        devices: how many there are.
        memory: bytes of one device; None if it does not say, as a CPU.

    Returns:
        Its shape; if no split is enough, the one with the most devices per copy.
    """
    weights = sum(
        4 * math.prod(leaf.shape) for leaf in leaf_paths(parameter_shapes(config)).values()
    )
    sizes = _model_sizes(config, devices)
    enough = [m for m in sizes if memory is None or COPIES * weights <= m * memory]
    model = enough[0] if enough else sizes[-1]
    return MeshShape(data=devices // model, model=model)


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
        limit = (devices[0].memory_stats() or {}).get("bytes_limit")
        shape = choose_shape(config, len(devices), limit)
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
    if isinstance(shape, str):
        shape = parse_mesh(shape)
    packed = any(path not in AXES for path in leaf_paths(model.params))
    if packed or model.config.masked:
        if shape is None:
            return model
        kind = "packed" if packed else "masked"
        raise InputError(f"`mesh` is {shape}; {kind} models run on one device")
    mesh = make_mesh(model.config, shape)
    return model if mesh.size == 1 else replace(model, params=place(model.params, mesh))


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


def _split_sizes(config: ModelConfig) -> dict[str, int]:
    """Logical axis that must be split -> its size."""
    sizes = {}
    for path, leaf in leaf_paths(parameter_shapes(config)).items():
        sizes |= {n: s for n, s in zip(AXES[path], leaf.shape, strict=True) if n in MUST_SPLIT}
    return sizes


def _model_sizes(config: ModelConfig, devices: int) -> list[int]:
    """Sizes of the `model` axis that divide the devices, the heads and the MLP."""
    whole = math.gcd(devices, *_split_sizes(config).values())
    return [size for size in range(1, whole + 1) if whole % size == 0]


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))
