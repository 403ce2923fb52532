"""A model's parameters as a tree of parts: model, layers, attention and MLP, heads."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxprotect.models.axes import Component, component, head_axis, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths

Place = tuple[int | None, Component, int | None]
"""Layer (None outside the blocks), component, head (None for what belongs to no single head)."""

OUTSIDE: tuple[Component, ...] = ("token_embedding", "position_embedding", "norms", "head")
"""What lies outside the blocks, in order."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a model, and what it is made of.

    Args:
        name: in words, such as `layer 3` or `head 0`.
        size: number of parameters.
        place: where its parameters are counted; None for a part that is made of others.
        parts: what it is made of; their sizes sum to its own.
    """

    name: str
    size: int
    place: Place | None = None
    parts: tuple["Part", ...] = ()

    @property
    def is_head(self) -> bool:
        """Whether it is a single attention head."""
        return self.place is not None and self.place[2] is not None

    def leaves(self) -> Iterator["Part"]:
        """The parts that are not made of others, in order."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


def part_tree(config: ModelConfig, name: str = "model") -> Part:
    """The parts of an architecture down to single heads, with exact sizes.

    What heads share (the bias of the output projection; keys and values, where several heads
    read the same ones) is a part of the attention beside them.

    Args:
        config: the architecture; no weights are needed.
        name: of the whole.

    Returns:
        model -> embeddings, layers, last norm, head; layer -> attention, MLP, norms;
        attention -> heads. Parts without parameters are left out.

    >>> from jaxprotect.models.census import census_of
    >>> gpt2 = part_tree(census_of("gpt2").config)
    >>> gpt2.size, len(list(gpt2.leaves()))
    (124439808, 183)
    """
    sizes: Counter[Place] = Counter()
    for path, leaf in leaf_paths(parameter_shapes(config)).items():
        sizes.update(counts_by_place(path, leaf.shape, np.ones((1,) * len(leaf.shape)), config))

    def leaf_part(words: str, place: Place) -> list[Part]:
        return [Part(name=words, size=sizes[place], place=place)] if sizes[place] else []

    def layer_part(layer: int) -> Part:
        heads = [
            part
            for head in range(config.heads)
            for part in leaf_part(f"head {head}", (layer, "attention", head))
        ]
        heads += leaf_part("shared by heads", (layer, "attention", None))
        attention = _whole("attention", heads)
        mlp = leaf_part("MLP", (layer, "mlp", None))
        norms = leaf_part("norms", (layer, "norms", None))
        return _whole(f"layer {layer}", [attention, *mlp, *norms])

    outside = [part for kind in OUTSIDE for part in leaf_part(_words(kind), (None, kind, None))]
    embeddings = [part for part in outside if part.name.endswith("embedding")]
    rest = [part for part in outside if part not in embeddings]
    return _whole(name, [*embeddings, *map(layer_part, range(config.layers)), *rest])


def counts_by_place(
    path: str, shape: tuple[int, ...], flags: np.ndarray, config: ModelConfig
) -> dict[Place, int]:
    """How many of a leaf's flags are set, at each place.

    Args:
        path: leaf path.
        shape: of the leaf.
        flags: 0 or 1, of the leaf's rank; an axis of length 1 stands for the whole axis.
        config: the architecture.

    Returns:
        Place -> count, exact at any size.
    """
    layers, heads = layer_axis(path), head_axis(path)
    if heads is not None and shape[heads] != config.heads:
        heads = None  # several heads read the same keys and values
    kept = [axis for axis in (layers, heads) if axis is not None]
    others = tuple(axis for axis in range(len(shape)) if axis not in kept)
    repeats = math.prod(shape[axis] for axis in others if flags.shape[axis] == 1)
    counts = repeats * flags.astype(bool).sum(axis=others, dtype=np.int64)
    counts = np.broadcast_to(counts, [shape[axis] for axis in sorted(kept)])
    if layers is None:
        counts = counts[None]
    if heads is None:
        counts = counts[..., None]
    return {
        (
            None if layers is None else layer,
            component(path),
            None if heads is None else head,
        ): int(count)
        for (layer, head), count in np.ndenumerate(counts)
    }


def _whole(name: str, parts: list[Part]) -> Part:
    return Part(name=name, size=sum(part.size for part in parts), parts=tuple(parts))


def _words(kind: Component) -> str:
    return {"norms": "last norm", "head": "output head"}.get(kind, kind.replace("_", " "))
