"""Which weights of a tensor are protected: how many, and the cheapest way to say where.

A tensor is a matrix, row-major, one row per output channel and one column per input.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

IndexFormat = Literal["none", "whole", "rows", "columns", "coordinate", "sparse", "bitmap"]
"""How a tensor says which of its weights are protected, see `index_bytes`."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A tensor's shape as a matrix, and how much of it is protected.

    Args:
        outputs: its rows, the output channels.
        inputs: its columns.
        protected: number of protected weights.
        rows: how many rows are protected as a whole.
        columns: how many columns are protected as a whole.
    """

    outputs: int
    inputs: int
    protected: int
    rows: int = 0
    columns: int = 0

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.outputs * self.inputs


def count_flags(
    flags: Bool[np.ndarray, "..."], shape: tuple[int, ...], contracted: tuple[int, ...]
) -> Counts:
    """What a mask protects of a tensor, without broadcasting it.

    Each flag stands for as many weights as there are per flag, counted in 64 bits.

    Args:
        flags: True = protected; each axis has the tensor's length, or 1.
        shape: the tensor's.
        contracted: its axes that are inputs; empty for a single row (norms, biases).

    Returns:
        The counts.

    >>> count_flags(np.array([[True], [False]]), (2, 5), (1,))
    Counts(outputs=2, inputs=5, protected=5, rows=1, columns=0)
    """
    every = tuple(range(len(shape)))
    in_axes = contracted or every
    out_axes = tuple(axis for axis in every if axis not in in_axes)

    def repeats(axes: tuple[int, ...]) -> int:
        return math.prod(shape[a] for a in axes) // math.prod(flags.shape[a] for a in axes)

    return Counts(
        outputs=math.prod(shape[a] for a in out_axes),
        inputs=math.prod(shape[a] for a in in_axes),
        protected=int(np.count_nonzero(flags)) * repeats(every),
        rows=int(np.count_nonzero(flags.all(axis=in_axes))) * repeats(out_axes),
        columns=int(np.count_nonzero(flags.all(axis=out_axes))) * repeats(in_axes),
    )


def width(largest: int, smallest: int) -> int:
    """Bytes of the shortest unsigned integer that holds a value.

    Args:
        largest: the value.
        smallest: shortest width allowed, in bytes.

    Returns:
        1, 2, 4 or 8.
    """
    return next(n for n in (1, 2, 4, 8) if n >= smallest and largest < 256**n)


def index_bytes(counts: Counts) -> tuple[IndexFormat, int]:
    """The cheapest way to say which weights of a tensor are protected.

    - `none`, `whole`: no weight, or every weight; 0 bytes.
    - `rows`, `columns`: ids of rows (columns) that are protected as a whole, 2 bytes each where
      the largest id fits, else 4; only when they hold every protected weight.
    - `coordinate`: row * inputs + column of each protected weight, 4 bytes where it fits, else 8.
    - `sparse`: a count for each row, 2 bytes where `inputs` fits, else 4; and the column of each
      protected weight, 1, 2 or 4 bytes.
    - `bitmap`: 1 bit for each weight, rounded up to whole bytes.

    Widths follow from the shape alone, so that none has to be stored. Of equally cheap formats
    the first of this list is meant.

    Args:
        counts: the tensor's shape, and how much of it is protected.

    Returns:
        The format and its bytes.

    Source: rows of columns as in SpQR, arXiv:2306.03078, with counts in place of offsets.

    >>> index_bytes(Counts(outputs=768, inputs=768, protected=2064))
    ('sparse', 5664)
    """
    outputs, inputs, protected = counts.outputs, counts.inputs, counts.protected
    if protected in (0, counts.weights):
        return ("whole" if protected else "none"), 0
    formats: dict[IndexFormat, int] = {}
    if counts.rows * inputs == protected:
        formats["rows"] = counts.rows * width(outputs - 1, 2)
    if counts.columns * outputs == protected:
        formats["columns"] = counts.columns * width(inputs - 1, 2)
    formats["coordinate"] = protected * width(counts.weights - 1, 4)
    formats["sparse"] = outputs * width(inputs, 2) + protected * width(inputs - 1, 1)
    formats["bitmap"] = -(-counts.weights // 8)
    return min(formats.items(), key=lambda item: item[1])
