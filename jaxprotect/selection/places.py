"""Where in a model a set lies: exact counts per layer, component and head."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.models.axes import Eligible, is_eligible
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.parts import Place, counts_by_place
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.quantize import Mask, check_tree
from jaxprotect.trees import leaf_paths


@dataclass(frozen=True, kw_only=True)
class PlacedSet:
    """A set of weights, counted by place.

    Args:
        inside: place -> its eligible weights that are in the set.
        room: place -> all its eligible weights; places without any are left out.
    """

    inside: Mapping[Place, int]
    room: Mapping[Place, int]

    @property
    def count(self) -> int:
        """Weights of the set."""
        return sum(self.inside.values())

    @property
    def shares(self) -> dict[Place, float]:
        """Place -> share of its eligible weights that is in the set."""
        return {place: self.inside.get(place, 0) / size for place, size in self.room.items()}


def protected_by_place(
    mask: Mask, config: ModelConfig, eligible: Eligible = "matrices"
) -> PlacedSet:
    """How many eligible weights are protected at each place, and how many there are.

    Args:
        mask: the protected set.
        config: the architecture; no weights are needed.
        eligible: which leaves count.

    Returns:
        The counts, exact at any size.

    Raises:
        InputError: a mask that does not fit the architecture or protects nothing.
    """
    check_tree("mask", mask, config)
    shapes, flags = leaf_paths(parameter_shapes(config)), leaf_paths(mask)
    inside: Counter[Place] = Counter()
    room: Counter[Place] = Counter()
    for path, leaf in shapes.items():
        if is_eligible(path, eligible):
            shape, of_leaf = leaf.shape, np.asarray(flags[path])
            rank = (1,) * (len(shape) - of_leaf.ndim)
            inside.update(
                counts_by_place(path, shape, of_leaf.reshape(rank + of_leaf.shape), config)
            )
            room.update(counts_by_place(path, shape, np.ones((1,) * len(shape)), config))
    if not inside.total():
        raise InputError("`mask` protects nothing; it lies nowhere")
    return PlacedSet(inside=inside, room=room)
