"""The numbers of a checkpoint tensor <-> those of the leaf that it fills.

Both sides name their axes, so reading is a reshape and a transpose, and writing the same the other
way round.
"""

import math
from dataclasses import dataclass

import numpy as np

from jaxprotect.models.axes import AXES
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.weight_maps import Slot


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a leaf, as a device of a mesh holds it.

    Args:
        axis: the one logical axis that is cut.
        start: first place on it.
        stop: the place after the last.
    """

    axis: str
    start: int
    stop: int


def _sizes(config: ModelConfig) -> dict[str, int]:
    return {
        "vocab": config.vocab_size,
        "position": config.context + config.position_offset,
        "type": config.token_types,
        "embed": config.width,
        "transformed": config.width,
        "qkv": 3,
        "heads": config.heads,
        "key_heads": config.key_heads,
        "head_dim": config.head_size,
        "mlp": config.mlp_width,
    }


def stored_shape(slot: Slot, config: ModelConfig) -> tuple[int, ...]:
    """The shape of a tensor in the checkpoint.

    Args:
        slot: where the tensor goes.
        config: the architecture.

    Returns:
        One size per stored axis.
    """
    sizes = _sizes(config)
    return tuple(math.prod(sizes[axis] for axis in group) for group in slot.axes)


def from_stored(
    tensor: np.ndarray, slot: Slot, config: ModelConfig, part: Part | None = None
) -> np.ndarray:
    """A checkpoint tensor in the layout of its leaf (of one layer of it, in the blocks).

    Args:
        tensor: of `stored_shape`; with a part, what `part_ranges` says of it.
        slot: where the tensor goes.
        config: the architecture.
        part: the part of the leaf that it fills; all of it by default.

    Returns:
        A view of the tensor with the leaf's axes.
    """
    stored = [axis for group in slot.axes for axis in group]
    wanted = [axis for axis in AXES[slot.leaf] if axis != "layer"]
    sizes = _sizes(config)
    if part is not None:
        sizes[part.axis] = part.stop - part.start
    split = tensor.reshape([sizes[axis] for axis in stored])
    return split.transpose([stored.index(axis) for axis in wanted])


def part_of(path: str, shape: tuple[int, ...], index: tuple[slice, ...]) -> Part | None:
    """The part of a leaf that an index means; None for all of it.

    Args:
        path: leaf path.
        shape: of the leaf.
        index: one slice per axis, of which at most one cuts.

    Returns:
        The part.
    """
    bounds = [cut.indices(size)[:2] for cut, size in zip(index, shape, strict=True)]
    cuts = [
        Part(axis=axis, start=start, stop=stop)
        for axis, (start, stop), size in zip(AXES[path], bounds, shape, strict=True)
        if stop - start < size
    ]
    if not cuts:
        return None
    (part,) = cuts
    return part


def part_ranges(slot: Slot, config: ModelConfig, part: Part) -> tuple[int, list[slice]]:
    """Where a part of a leaf lies in the checkpoint's tensor.

    Args:
        slot: where the tensor goes.
        config: the architecture.
        part: the part.

    Returns:
        The stored axis, and the ranges along it, in order.
    """
    sizes = _sizes(config)
    (stored,) = [axis for axis, group in enumerate(slot.axes) if part.axis in group]
    group = slot.axes[stored]
    place = group.index(part.axis)
    before = math.prod(sizes[axis] for axis in group[:place])
    inside = math.prod(sizes[axis] for axis in group[place + 1 :])
    starts = [outer * sizes[part.axis] for outer in range(before)]
    return stored, [
        slice((start + part.start) * inside, (start + part.stop) * inside) for start in starts
    ]


def to_stored(values: np.ndarray, slot: Slot, config: ModelConfig) -> np.ndarray:
    """The inverse of `from_stored`.

    Args:
        values: a leaf, or one layer of a leaf in the blocks.
        slot: where the tensor goes.
        config: the architecture.

    Returns:
        An array of `stored_shape`.
    """
    stored = [axis for group in slot.axes for axis in group]
    leaf = [axis for axis in AXES[slot.leaf] if axis != "layer"]
    moved = values.transpose([leaf.index(axis) for axis in stored])
    return moved.reshape(stored_shape(slot, config))
