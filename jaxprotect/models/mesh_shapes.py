"""How many devices along each axis of a mesh: asked for, checked, or chosen from the model."""

import math
import re
from dataclasses import dataclass

from jaxprotect.errors import InputError
from jaxprotect.models.axes import AXES
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths

DATA, MODEL = "data", "model"

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
