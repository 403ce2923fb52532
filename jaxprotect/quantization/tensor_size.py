"""The bytes of one eligible checkpoint tensor in the format of `size`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.indices import Counts, IndexFormat, index_bytes, width
from jaxprotect.quantization.spec import QuantSpec

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1
WIDTH_TABLE_BITS = 3
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class TensorSize:
    """One eligible checkpoint tensor: counts of weights, and bytes of each of its parts.

    Args:
        path: leaf path.
        layer: its index in a stacked leaf, None outside the blocks.
        weights: number of weights.
        protected: how many of them are protected, or in rows of 16 bits.
        codes: bytes of the packed codes and of the table of widths.
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


def row_widths(
    bits: Int[np.ndarray, "..."], path: str, shape: tuple[int, ...]
) -> list[Int[np.ndarray, "outputs"]]:
    """Bits of every row of each checkpoint tensor of a leaf.

    Args:
        bits: of the leaf's output channels, see `Bits`.
        path: leaf path.
        shape: the leaf's.

    Returns:
        For each layer (one outside the blocks), one number per row of its matrix.
    """
    inputs = contracted_axes(path) or tuple(a for a in range(len(shape)) if a != layer_axis(path))
    full = [1 if axis in inputs else size for axis, size in enumerate(shape)]
    rows = np.broadcast_to(bits, full)
    return list(rows.reshape(shape[0] if layer_axis(path) == 0 else 1, -1))


def dense_bytes(
    counts: Counts, path: str, spec: QuantSpec, widths: Int[np.ndarray, "outputs"] | None
) -> tuple[int, int]:
    """Bytes of a tensor's codes (with the table of widths) and of its scales.

    Args:
        counts: its shape and what is protected.
        path: its leaf path.
        spec: the quantizer.
        widths: bits of each row; None where all have `spec.bits`.

    Returns:
        Both numbers.
    """
    if widths is None:
        widths = np.full(counts.outputs, spec.bits)
    used, rows = np.unique(widths, return_counts=True)
    codes = sum(
        -(-int(n) * counts.inputs * int(width) // 8)
        for width, n in zip(used, rows, strict=True)
        if width != KEPT
    )
    table = -(-counts.outputs * WIDTH_TABLE_BITS // 8) if len(used) > 1 else 0
    coded = counts.outputs - int(np.count_nonzero(widths == KEPT))
    if spec.granularity == "tensor" or not contracted_axes(path):
        blocks = min(coded, 1)
    elif spec.granularity == "channel":
        blocks = coded
    else:
        blocks = coded * -(-counts.inputs // spec.group_size)
    scale = SCALE_BYTES + (0 if spec.symmetric else ZERO_POINT_BYTES)
    return codes + table, blocks * scale


def tensor_size(
    path: str,
    layer: int | None,
    counts: Counts,
    spec: QuantSpec,
    widths: Int[np.ndarray, "outputs"] | None,
) -> TensorSize:
    """The bytes of one tensor, part by part.

    Args:
        path: its leaf path.
        layer: its index in a stacked leaf, None outside the blocks.
        counts: its shape and what is protected, rows of 16 bits left out.
        spec: the quantizer.
        widths: bits of each row; None where all have `spec.bits`.

    Returns:
        The size.
    """
    index_format, index = index_bytes(counts)
    whole = index_format == "whole"
    codes, scales = (0, 0) if whole else dense_bytes(counts, path, spec, widths)
    kept = 0 if widths is None else int(np.count_nonzero(widths == KEPT)) * counts.inputs
    values = counts.protected * DTYPE_BYTES[spec.protected_dtype]
    if spec.protected_dtype == "int8" and counts.protected:
        values += SCALE_BYTES
    return TensorSize(
        path=path,
        layer=layer,
        weights=counts.weights,
        protected=counts.protected + kept,
        codes=codes,
        scales=scales,
        values=values + kept * DTYPE_BYTES[spec.other_dtype],
        index=index,
        index_format=index_format,
    )


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
    return 8 * DTYPE_BYTES[spec.protected_dtype] + each
