"""A checkpoint tensor as the matrix that is stored: one row per output, one column per input."""

import math
from typing import Any

from jaxprotect.models.axes import contracted_axes, layer_axis


def tensor_name(path: str, layer: int | None) -> str:
    """The name of a checkpoint tensor in a packed file.

    >>> tensor_name("blocks/mlp/up/kernel", 3)
    'blocks.3.mlp.up.kernel'
    """
    parts = path.split("/")
    return ".".join(parts if layer is None else [parts[0], str(layer), *parts[1:]])


def tensor_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one checkpoint tensor of a leaf: the leaf's without the layers."""
    return shape if layer_axis(path) is None else shape[1:]


def matrix_axes(path: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of a tensor that are outputs, and those that are inputs.

    Args:
        path: leaf path.
        rank: of the tensor, without the layers.

    Returns:
        Both in order; a norm or a bias is one output with inputs only.
    """
    shift = 0 if layer_axis(path) is None else 1
    inputs = tuple(axis - shift for axis in contracted_axes(path)) or tuple(range(rank))
    return tuple(axis for axis in range(rank) if axis not in inputs), inputs


def as_matrix(values: Any, path: str) -> Any:
    """A tensor as [outputs, inputs].

    Args:
        values: one tensor, without the layers; NumPy or JAX.
        path: its leaf path.

    Returns:
        The matrix.
    """
    outputs, inputs = matrix_axes(path, values.ndim)
    rows = math.prod(values.shape[axis] for axis in outputs)
    return values.transpose(*outputs, *inputs).reshape(rows, -1)


def from_matrix(matrix: Any, path: str, shape: tuple[int, ...]) -> Any:
    """The inverse of `as_matrix`.

    Args:
        matrix: [outputs, inputs], or with leading axes.
        path: leaf path.
        shape: of the tensor, without the layers.

    Returns:
        The tensor, behind the matrix's leading axes.
    """
    outputs, inputs = matrix_axes(path, len(shape))
    moved = (*outputs, *inputs)
    lead = matrix.shape[:-2]
    back = [len(lead) + moved.index(axis) for axis in range(len(shape))]
    full = matrix.reshape(*lead, *(shape[axis] for axis in moved))
    return full.transpose(*range(len(lead)), *back)
