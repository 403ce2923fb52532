"""A model's parts as rectangles whose areas are exact numbers of parameters, in reading order.

Columns: what comes before the layers, the layers, what comes after them. Layers stand in rows, as
text does; in a layer attention stands above the MLP, in attention heads stand in rows again.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxprotect.models.parts import Part


class Box(NamedTuple):
    """A rectangle, from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


Layout = Callable[[Sequence[float], Box], list[Box]]
"""Sizes and a box -> a box for each; their areas are as the sizes, and fill the whole."""


def beside(sizes: Sequence[float], box: Box) -> list[Box]:
    """One beside the other, each as high as the box.

    >>> beside([1, 3], Box(0, 0, 8, 2))
    [Box(left=0.0, top=0, width=2.0, height=2), Box(left=2.0, top=0, width=6.0, height=2)]
    """
    ends = box.left + box.width * np.cumsum([0, *sizes]) / sum(sizes)
    return [Box(float(a), box.top, float(b - a), box.height) for a, b in itertools.pairwise(ends)]


def below(sizes: Sequence[float], box: Box) -> list[Box]:
    """One below the other, each as wide as the box."""
    turned = beside(sizes, Box(box.top, box.left, box.height, box.width))
    return [Box(inner.top, inner.left, inner.height, inner.width) for inner in turned]


def in_rows(sizes: Sequence[float], box: Box) -> list[Box]:
    """In as many rows as make the boxes most like squares."""
    tried = (_rows(sizes, box, rows) for rows in range(1, len(sizes) + 1))
    return min(tried, key=lambda boxes: sum(abs(np.log(b.width / b.height)) for b in boxes))


def _rows(sizes: Sequence[float], box: Box, rows: int) -> list[Box]:
    """Rows of equally many, to one."""
    split = [list(row) for row in np.array_split(np.asarray(sizes, float), rows)]
    strips = below([sum(row) for row in split], box)
    return [inner for row, strip in zip(split, strips, strict=True) for inner in beside(row, strip)]


def model_boxes(whole: Part, box: Box) -> Iterator[tuple[Part, Box]]:
    """Each layer, attention and single part with its box, the whole before what it is made of."""
    for parts, column in _grouped(whole.parts, box, beside):
        for part, place in _placed(parts, column, in_rows if parts[0].parts else below):
            yield part, place
            for inner, inner_place in _placed(part.parts, place, below):
                yield inner, inner_place
                for heads, strip in _grouped(inner.parts, inner_place, below):
                    yield from _placed(heads, strip, in_rows)


def _grouped(
    parts: Sequence[Part], box: Box, layout: Layout
) -> Iterator[tuple[Sequence[Part], Box]]:
    """Neighbours of one kind, layers, heads or neither, with the box of all of them."""
    kinds = itertools.groupby(parts, lambda part: (bool(part.parts), part.is_head))
    groups = [list(group) for _, group in kinds]
    if groups:
        sizes = [sum(part.size for part in group) for group in groups]
        yield from zip(groups, layout(sizes, box), strict=True)


def _placed(parts: Sequence[Part], box: Box, layout: Layout) -> Iterator[tuple[Part, Box]]:
    if parts:
        yield from zip(parts, layout([part.size for part in parts], box), strict=True)
