"""The exact size in bytes of a protected model: the format that packing follows.

Every eligible checkpoint tensor (one layer's slice of a stacked leaf) is a matrix, row-major, one
row per output channel and one column per input. A norm or a bias is a single row. It is stored as

- codes: `bits` for each weight, protected ones too, packed and rounded up to whole bytes;
- scales: 4 bytes (float32) for each block of `scale_blocks`, and 1 for its zero point when
  asymmetric;
- values: the protected weights, 1, 2 or 4 bytes each by `protected_dtype`; in int8 4 more for
  their scale;
- index: where they belong, in the cheapest format of `indices.index_bytes`.

Under mixed precision the rows of one width are packed together, each width rounded up to whole
bytes; rows of 16 bits have neither codes nor scales but values in `other_dtype`; and a tensor whose
rows differ has a table of 3 bits per row that says which width each has.

A tensor that is protected as a whole has values only. Leaves that are not eligible are stored in
`other_dtype`. Array contents are counted; a file adds its header of names and shapes, from which
every number of rows, blocks and values is known.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.axes import (
    AXES,
    COMPONENTS,
    component,
    contracted_axes,
    is_eligible,
    layer_axis,
)
from jaxprotect.quantization.grid import KEPT, Bits, check_bits
from jaxprotect.quantization.indices import Counts, count_flags
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import (
    DTYPE_BYTES,
    TensorSize,
    dense_bytes,
    row_widths,
    tensor_size,
)
from jaxprotect.trees import leaf_paths


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
    if dtype not in ("float32", "float16", "bfloat16"):
        raise unknown_name("dtype", dtype, ("float32", "float16", "bfloat16"))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) * DTYPE_BYTES[dtype]


def protected_size(
    params_or_shapes: Any, mask: Mask, spec: QuantSpec, bits: Bits | None = None
) -> ModelSize:
    """The size of a model whose masked weights are protected and whose others are quantized.

    total = sum over eligible tensors (codes + scales + values + index) + other. Only shapes and
    flags are read. A flag that stands for a whole axis is counted as it is, so masks of equal
    content have equal sizes and a few bytes of mask never become a tensor.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        mask: tree of the same structure; bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.
        bits: mixed precision: bits of output channels that do not have `spec.bits`.

    Returns:
        The bytes of each tensor and of the model.

    Raises:
        InputError: a leaf that no model has, a mask that does not fit or is not bool, or bits that
            do not fit.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in leaf_paths(params_or_shapes).items()}
    others = (s for path, s in shapes.items() if not is_eligible(path, spec.eligible))
    other = sum(math.prod(shape) for shape in others) * DTYPE_BYTES[spec.other_dtype]
    tensors, unprotected = [], 0
    for path, layer, counts, widths in counted_tensors(shapes, mask, spec, bits):
        tensors.append(tensor_size(path, layer, counts, spec, widths))
        unprotected += sum(dense_bytes(counts, path, spec, None))
    return ModelSize(tensors=tuple(tensors), other=other, unprotected_total=unprotected + other)


def counted_tensors(
    shapes: dict[str, tuple[int, ...]], mask: Mask, spec: QuantSpec, bits: Bits | None = None
) -> Iterator[tuple[str, int | None, Counts, np.ndarray | None]]:
    """What is protected of every eligible checkpoint tensor, one tensor on the host at a time.

    Args:
        shapes: leaf path -> shape, of all leaves of the model.
        mask: see `protected_size`.
        spec: the quantizer.
        bits: see `protected_size`.

    Yields:
        Leaf path, layer (None outside the blocks), counts without rows of 16 bits, and the bits
        of each row (None where all have `spec.bits`).

    Raises:
        InputError: see `protected_size`.
    """
    flags = checked_flags(mask, shapes)
    check_bits(bits or {}, {p: s for p, s in shapes.items() if is_eligible(p, spec.eligible)}, spec)
    for path, shape in shapes.items():
        if not is_eligible(path, spec.eligible):
            continue
        of_leaf, widths = flags[path], itertools.repeat(None)
        if bits is not None and path in bits:
            channels = np.asarray(bits[path])
            of_leaf, widths = of_leaf & (channels != KEPT), row_widths(channels, path, shape)
        counted = zip(_tensor_counts(of_leaf, path, shape), widths, strict=False)
        for (layer, counts), of_rows in counted:
            yield path, layer, counts, of_rows


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


def checked_flags(mask: Mask, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array | np.ndarray]:
    """The mask's leaves with the rank of the params', not broadcast.

    Args:
        mask: the mask.
        shapes: leaf path -> shape, of all leaves of the model.

    Returns:
        Leaf path -> flags.

    Raises:
        InputError: what does not fit, by leaf.
    """
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
