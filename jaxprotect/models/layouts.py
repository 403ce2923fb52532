"""The numbers of a checkpoint tensor <-> those of the leaf that it fills.

Both sides name their axes, so reading is a reshape and a transpose, and writing the same the other
way round.
"""

import math

import numpy as np

from jaxprotect.models.axes import AXES
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.weight_maps import Slot


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


def from_stored(tensor: np.ndarray, slot: Slot, config: ModelConfig) -> np.ndarray:
    """A checkpoint tensor in the layout of its leaf (of one layer of it, in the blocks).

    Args:
        tensor: of `stored_shape`.
        slot: where the tensor goes.
        config: the architecture.

    Returns:
        A view of the tensor with the leaf's axes.
    """
    stored = [axis for group in slot.axes for axis in group]
    wanted = [axis for axis in AXES[slot.leaf] if axis != "layer"]
    sizes = _sizes(config)
    split = tensor.reshape([sizes[axis] for axis in stored])
    return split.transpose([stored.index(axis) for axis in wanted])


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
