"""The arrays of a packed model: their names, dtypes and shapes, from shapes and flags alone.

A tensor `blocks.3.mlp.up.kernel` has the arrays, each with the name in front,

- `codes.4`: the packed codes of its rows of 4 bits (one array per width), bytes;
- `widths`: 3 bits per row, where rows differ: width - 2, or 7 for 16 bits;
- `scales`, `zeros`: [rows with codes, groups], or [1, 1] where the tensor has one;
- `rows.16`: the rows of 16 bits, in `spec.other_dtype`;
- `values`: the protected weights in row-major order; in INT8 codes, with `value_scale`;
- `index. ...`: where they are, see `index_arrays`.

A tensor that is not eligible is one array of its own name, in `spec.other_dtype`.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Int

import jaxprotect.models.weight_files  # noqa: F401  (bfloat16 in NumPy)
from jaxprotect.models.axes import contracted_axes, is_eligible, layer_axis
from jaxprotect.quantization.bit_packing import packed_bytes
from jaxprotect.quantization.grid import KEPT, Bits
from jaxprotect.quantization.index_arrays import Layout, index_layout
from jaxprotect.quantization.indices import Counts
from jaxprotect.quantization.matrices import tensor_name, tensor_shape
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.size import counted_tensors
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import WIDTH_TABLE_BITS
from jaxprotect.trees import leaf_paths

BYTE = np.dtype(np.uint8)
FLOAT = np.dtype(np.float32)


def scale_shape(path: str, coded: int, inputs: int, spec: QuantSpec) -> tuple[int, int]:
    """The shape of a tensor's scales.

    Args:
        path: leaf path.
        coded: its rows that have codes.
        inputs: its columns.
        spec: the quantizer.

    Returns:
        Rows and groups; (1, 1) where one scale serves the tensor, (0, ...) without codes.
    """
    if spec.granularity == "tensor" or not contracted_axes(path):
        return min(coded, 1), 1
    return coded, -(-inputs // spec.group_size) if spec.granularity == "group" else 1


def tensor_layout(
    path: str, counts: Counts, spec: QuantSpec, widths: Int[np.ndarray, "outputs"] | None
) -> Layout:
    """The arrays of one eligible tensor.

    Args:
        path: leaf path.
        counts: its shape and what is protected, rows of 16 bits left out.
        spec: the quantizer.
        widths: bits of each row; None where all have `spec.bits`.

    Returns:
        Part name -> dtype and shape, without arrays that would be empty.
    """
    if widths is None:
        widths = np.full(counts.outputs, spec.bits)
    index_format, index = index_layout(counts)
    layout: Layout = {}
    if index_format != "whole":
        used, rows = np.unique(widths, return_counts=True)
        for width, n in zip(used.tolist(), rows.tolist(), strict=True):
            if width != KEPT:
                layout[f"codes.{width}"] = BYTE, (packed_bytes(n * counts.inputs, width),)
        if len(used) > 1:
            layout["widths"] = BYTE, (packed_bytes(counts.outputs, WIDTH_TABLE_BITS),)
        scales = scale_shape(path, int(np.sum(widths != KEPT)), counts.inputs, spec)
        layout["scales"] = FLOAT, scales
        if not spec.symmetric:
            layout["zeros"] = BYTE, scales
        kept = int(np.sum(widths == KEPT))
        layout[f"rows.{KEPT}"] = np.dtype(spec.other_dtype), (kept, counts.inputs)
    layout["values"] = np.dtype(spec.protected_dtype), (counts.protected,)
    if spec.protected_dtype == "int8" and counts.protected:
        layout["value_scale"] = FLOAT, (1,)
    return {name: entry for name, entry in (layout | index).items() if math.prod(entry[1])}


def model_layout(
    params_or_shapes: Any, mask: Mask, spec: QuantSpec, bits: Bits | None = None
) -> Layout:
    """The arrays of a packed model.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        mask: see `protected_size`.
        spec: the quantizer.
        bits: see `protected_size`.

    Returns:
        Array name -> dtype and shape.

    Raises:
        InputError: see `protected_size`.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in leaf_paths(params_or_shapes).items()}
    layout: Layout = {}
    for path, layer, counts, widths in counted_tensors(shapes, mask, spec, bits):
        name = tensor_name(path, layer)
        parts = tensor_layout(path, counts, spec, widths)
        layout |= {f"{name}.{part}": entry for part, entry in parts.items()}
    for path, shape in shapes.items():
        if not is_eligible(path, spec.eligible):
            entry = np.dtype(spec.other_dtype), tensor_shape(path, shape)
            layout |= {tensor_name(path, layer): entry for layer in layers_of(path, shape)}
    return layout


def layers_of(path: str, shape: tuple[int, ...]) -> list[int] | list[None]:
    """The layers of a stacked leaf, or one None."""
    return [None] if layer_axis(path) is None else list(range(shape[0]))
