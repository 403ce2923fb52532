"""The exact size in bytes of a protected model: the format that packing follows.

Every eligible checkpoint tensor (one layer's slice of a stacked leaf) is a matrix, row-major, one
row per output channel and one column per input. A norm or a bias is a single row. It is stored as

- codes: `bits` for each weight, protected ones too, packed and rounded up to whole bytes;
- scales: 4 bytes (float32) for each block of `scale_blocks`, and 1 for its zero point when
  asymmetric;
- values: the protected weights, 2 or 4 bytes each by `protected_dtype`;
- index: where they belong, in the cheapest format of `indices.index_bytes`.

A tensor that is protected as a whole has values only. Leaves that are not eligible are stored in
`protected_dtype`. Array contents are counted; a file adds its header of names and shapes, from
which every number of rows, blocks and values is known.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError
from jaxprotect.models.axes import (
    AXES,
    COMPONENTS,
    component,
    contracted_axes,
    is_eligible,
    layer_axis,
)
from jaxprotect.quantization.indices import Counts, IndexFormat, count_flags, index_bytes, width
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class TensorSize:
    """One eligible checkpoint tensor: counts of weights, and bytes of each of its parts.

    Args:
        path: leaf path.
        layer: its index in a stacked leaf, None outside the blocks.
        weights: number of weights.
        protected: how many of them are protected.
        codes: bytes of the packed codes.
        scales: bytes of scales and zero points.
        values: bytes of the protected values.
        index: bytes that say where the values belong.
        index_format: how they say it.
    """

    path: str
    layer: int | None
    weights: int
    protected: int
    codes: int
    scales: int
    values: int
    index: int
    index_format: IndexFormat

    @property
    def total(self) -> int:
        """Bytes of the tensor."""
        return self.codes + self.scales + self.values + self.index


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The bytes of a protected model, by tensor.

    Args:
        tensors: every eligible tensor, in the order of leaf paths and layers.
        other: bytes of the leaves that are not eligible.
        unprotected_total: bytes of the model under the same quantizer with nothing protected.
    """

    tensors: tuple[TensorSize, ...]
    other: int
    unprotected_total: int

    @property
    def weights(self) -> int:
        """Number of eligible weights."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def protected(self) -> int:
        """Number of protected eligible weights."""
        return sum(tensor.protected for tensor in self.tensors)

    @property
    def index_bytes(self) -> int:
        """Bytes that say which weights are protected."""
        return sum(tensor.index for tensor in self.tensors)

    @property
    def total(self) -> int:
        """Bytes of the whole model."""
        return sum(tensor.total for tensor in self.tensors) + self.other

    @property
    def overhead(self) -> int:
        """Bytes that protection adds; below 0 where whole tensors are cheaper than their codes."""
        return self.total - self.unprotected_total

    @property
    def bits_per_weight(self) -> float:
        """Bits of the eligible tensors, scales and indices included, per eligible weight."""
        return 8 * (self.total - self.other) / self.weights

    def rows(self) -> list[dict[str, str | int]]:
        """The size as a table, one JSON object per row.

        Returns:
            Rows `{part, weights, protected, codes, scales, values, index, other, total}`: counts
            of eligible weights, then bytes. `part` is `model`, a component, or `other`: the leaves
            that are not eligible. `total` is the sum of the five before it.
        """
        rows = [_row("model", self.tensors, self.other)]
        for name in COMPONENTS:
            tensors = [tensor for tensor in self.tensors if component(tensor.path) == name]
            rows += [_row(name, tensors, 0)] if tensors else []
        return [*rows, _row("other", [], self.other)]


def original_size(shapes: Any, dtype: str) -> int:
    """Bytes of the unquantized model: number of parameters * bytes of each.

    Args:
        shapes: parameter tree, or its shapes.
        dtype: `float32`, `float16` or `bfloat16`.

    Returns:
        The size, a Python int.

    Raises:
        InputError: another dtype.
    """
    if dtype not in _DTYPE_BYTES:
        raise InputError(f"`dtype` is {dtype!r}; allowed are {tuple(_DTYPE_BYTES)}")
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) * _DTYPE_BYTES[dtype]


def protected_size(params_or_shapes: Any, mask: Mask, spec: QuantSpec) -> ModelSize:
    """The size of a model whose masked weights are protected and whose others are quantized.

    total = sum over eligible tensors (codes + scales + values + index) + other. Only shapes and
    flags are read. A flag that stands for a whole axis is counted as it is, so masks of equal
    content have equal sizes and a few bytes of mask never become a tensor.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        mask: tree of the same structure; bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.

    Returns:
        The bytes of each tensor and of the model.

    Raises:
        InputError: a leaf that no model has, or a mask that does not fit or is not bool.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in leaf_paths(params_or_shapes).items()}
    flags = _checked_flags(mask, shapes)
    tensors, other, unprotected = [], 0, 0
    for path, shape in shapes.items():
        if not is_eligible(path, spec.eligible):
            other += math.prod(shape) * _DTYPE_BYTES[spec.protected_dtype]
            continue
        for layer, counts in _tensor_counts(flags[path], path, shape):
            tensors.append(_tensor_size(path, layer, counts, spec))
            unprotected += sum(_dense_bytes(counts, path, spec))
    return ModelSize(tensors=tuple(tensors), other=other, unprotected_total=unprotected + other)


def marginal_bits(spec: QuantSpec, fraction: float, *, inputs: int = 768) -> float:
    """Bits that one more protected weight costs where a fraction p is protected already.

    Its value, since its code stays, and its entry in the format that is the cheapest at p. In
    bits per weight of the tensor, a coordinate list costs 32 p, sparse rows cost
    c / inputs + p * (bits of a column) with c the bits of a count, and a bitmap costs 1: the entry
    costs 32 bits below about one protected weight per row, 8 or 16 up to p of about 1/8 or 1/16,
    and nothing above. So the price falls as p grows, and a choice made at one price should be
    priced again at the fraction that it reached.

    It assumes protected weights scattered over all rows of a tensor of at most 2^32 weights; whole
    rows and columns are cheaper. It leaves out rounding to bytes, the fixed cost of the first
    weight in a format (counts, the bitmap), and the codes that a tensor saves when its last
    weight is protected.

    Args:
        spec: the quantizer; only `protected_dtype` matters.
        fraction: p, protected weights / weights of the tensor, 0 to 1.
        inputs: row length of the tensor.

    Returns:
        Bits.

    Raises:
        InputError: `fraction` is not in 0 to 1, or `inputs` is below 1.

    >>> half = QuantSpec(protected_dtype="float16")
    >>> [marginal_bits(half, p) for p in (0.0, 0.0035, 0.1)]
    [48.0, 32.0, 16.0]
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"`fraction` is {fraction}; allowed are 0 to 1")
    if inputs < 1:
        raise InputError(f"`inputs` is {inputs}; it must be at least 1")
    count, column = 8 * width(inputs, 2), 8 * width(inputs - 1, 1)
    fixed_and_each = ((0.0, 32.0), (count / inputs, float(column)), (1.0, 0.0))
    _, each = min(fixed_and_each, key=lambda pair: pair[0] + fraction * pair[1])
    return 8 * _DTYPE_BYTES[spec.protected_dtype] + each


def _dense_bytes(counts: Counts, path: str, spec: QuantSpec) -> tuple[int, int]:
    """Bytes of a tensor's codes and of its scales."""
    if spec.granularity == "tensor" or not contracted_axes(path):
        blocks = 1
    elif spec.granularity == "channel":
        blocks = counts.outputs
    else:
        blocks = counts.outputs * -(-counts.inputs // spec.group_size)
    codes = -(-counts.weights * spec.bits // 8)
    return codes, blocks * (SCALE_BYTES + (0 if spec.symmetric else ZERO_POINT_BYTES))


def _tensor_size(path: str, layer: int | None, counts: Counts, spec: QuantSpec) -> TensorSize:
    index_format, index = index_bytes(counts)
    codes, scales = (0, 0) if index_format == "whole" else _dense_bytes(counts, path, spec)
    return TensorSize(
        path=path,
        layer=layer,
        weights=counts.weights,
        protected=counts.protected,
        codes=codes,
        scales=scales,
        values=counts.protected * _DTYPE_BYTES[spec.protected_dtype],
        index=index,
        index_format=index_format,
    )


def _tensor_counts(
    flags: Array | np.ndarray, path: str, shape: tuple[int, ...]
) -> Iterator[tuple[int | None, Counts]]:
    """The counts of each checkpoint tensor of a leaf, one tensor on the host at a time."""
    contracted = contracted_axes(path)
    if layer_axis(path) is None:
        yield None, count_flags(np.asarray(flags), shape, contracted)
        return
    inside = tuple(axis - 1 for axis in contracted)
    counted = [count_flags(np.asarray(flags[i]), shape[1:], inside) for i in range(flags.shape[0])]
    for layer in range(shape[0]):
        yield layer, counted[layer if len(counted) > 1 else 0]


def _checked_flags(mask: Mask, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array | np.ndarray]:
    """The mask's leaves with the rank of the params', or an error that names what does not fit."""
    flags = leaf_paths(mask)
    if flags.keys() != shapes.keys():
        odd = sorted(flags.keys() ^ shapes.keys())
        raise InputError(f"`mask` and `params_or_shapes` differ in the leaves {odd}")
    checked = {}
    for path, shape in shapes.items():
        if path not in AXES or len(shape) != len(AXES[path]):
            axes = AXES.get(path, "no such leaf")
            raise InputError(f"`params_or_shapes` at {path} has shape {shape}; models have {axes}")
        flag = flags[path] if isinstance(flags[path], jax.Array) else np.asarray(flags[path])
        full = (1,) * (len(shape) - flag.ndim) + flag.shape
        if len(full) != len(shape) or any(
            f not in (1, s) for f, s in zip(full, shape, strict=True)
        ):
            raise InputError(f"`mask` at {path} has shape {flag.shape}; the model has {shape}")
        if flag.dtype != bool:
            raise InputError(f"`mask` at {path} has dtype {flag.dtype}; it must be bool")
        checked[path] = flag.reshape(full)
    return checked


def _row(part: str, tensors: Sequence[TensorSize], other: int) -> dict[str, str | int]:
    counted = ("weights", "protected", "codes", "scales", "values", "index")
    sums = {name: sum(getattr(tensor, name) for tensor in tensors) for name in counted}
    total = sum(tensor.total for tensor in tensors) + other
    return {"part": part, **sums, "other": other, "total": total}
