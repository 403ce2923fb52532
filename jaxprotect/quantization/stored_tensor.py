"""The arrays of one packed tensor, checked and taken apart by rows."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes
from jaxprotect.quantization.bit_packing import unpack_bits
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.index_arrays import Arrays, read_index
from jaxprotect.quantization.indices import count_flags
from jaxprotect.quantization.layout import scale_shape, tensor_layout
from jaxprotect.quantization.matrices import matrix_axes, tensor_shape
from jaxprotect.quantization.packing import WHOLE_ROW
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import WIDTH_TABLE_BITS


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """One packed tensor by rows.

    Args:
        inputs: its columns.
        widths: bits of each row's codes; 16 for rows that are values.
        full: rows that are protected as a whole.
        counts: protected weights of each row.
        columns: column of each protected weight that is not in a full row, row by row.
        codes: width -> the packed codes of its rows.
        kept: rows of 16 bits.
        values: protected weights in row-major order.
        value_scale: their scale in INT8; 1 otherwise.
        scales: a line per row, 1 where it has no codes; or [1, 1].
        zeros: zero points like the scales; None when symmetric.
    """

    inputs: int
    widths: Int[np.ndarray, "outputs"]
    full: Bool[np.ndarray, "outputs"]
    counts: Int[np.ndarray, "outputs"]
    columns: Int[np.ndarray, "entries"]
    codes: dict[int, np.ndarray]
    kept: np.ndarray
    values: np.ndarray
    value_scale: Float[np.ndarray, "1"]
    scales: Float[np.ndarray, "rows groups"]
    zeros: UInt8[np.ndarray, "rows groups"] | None


def read_tensor(
    name: str, arrays: Arrays, path: str, shape: tuple[int, ...], spec: QuantSpec
) -> StoredTensor:
    """Take the arrays of one tensor apart.

    Args:
        name: the tensor's, for messages.
        arrays: part name -> array.
        path: leaf path.
        shape: the leaf's.
        spec: the quantizer.

    Returns:
        The tensor.

    Raises:
        InputError: arrays that no tensor of this shape has under this quantizer.
    """
    shape = tensor_shape(path, shape)
    inside, _ = matrix_axes(path, len(shape))
    outputs = math.prod(shape[axis] for axis in inside)
    inputs = math.prod(shape) // outputs
    coded = any(part.startswith(("codes.", "rows.")) for part in arrays)
    try:
        widths = _widths(arrays, outputs, spec)
        flags = read_index(arrays, (outputs, inputs), whole=not coded)
    except InputError as error:
        raise InputError(f"tensor `{name}`: {error}") from None
    wanted = tensor_layout(path, count_flags(flags, flags.shape, (1,)), spec, widths)
    found = {part: (array.dtype, array.shape) for part, array in arrays.items()}
    for part in sorted(wanted.keys() | found.keys()):
        if wanted.get(part) != found.get(part):
            raise InputError(
                f"tensor `{name}` has {_said(found.get(part))} as `{part}`; expected "
                f"{_said(wanted.get(part))}"
            )
    if flags[widths == KEPT].any():
        raise InputError(f"tensor `{name}`: the index names weights in rows of {KEPT} bits")
    full = np.all(flags, axis=1, keepdims=True)
    per_row = [arrays.get(part) for part in ("scales", "zeros")]
    if spec.granularity != "tensor" and contracted_axes(path):
        _, groups = scale_shape(path, outputs, inputs, spec)
        per_row = [_spread(of, (outputs, groups), widths != KEPT) for of in per_row]
    scales, zeros = (np.ones((1, 1)) if of is None else of for of in per_row)
    return StoredTensor(
        inputs=inputs,
        widths=widths,
        full=full.reshape(-1),
        counts=np.count_nonzero(flags, axis=1),
        columns=np.nonzero(flags & ~full)[1].astype(np.int32),
        codes={
            width: arrays[f"codes.{width}"] for width in range(2, 9) if f"codes.{width}" in arrays
        },
        kept=arrays.get(f"rows.{KEPT}", np.zeros((0, inputs), np.dtype(spec.other_dtype))),
        values=arrays.get("values", np.zeros(0, np.dtype(spec.protected_dtype))),
        value_scale=arrays.get("value_scale", np.ones(1, np.float32)),
        scales=scales.astype(np.float32),
        zeros=None if spec.symmetric else zeros.astype(np.uint8),
    )


def _spread(
    numbers: np.ndarray | None, shape: tuple[int, int], coded: Bool[np.ndarray, "outputs"]
) -> np.ndarray:
    """One line per row, 1 in those without codes."""
    spread = np.ones(shape, np.float32)
    if numbers is not None:
        spread[coded] = numbers
    return spread


def _widths(arrays: Arrays, outputs: int, spec: QuantSpec) -> Int[np.ndarray, "outputs"]:
    """Bits of each row: from the table, or those of the only kind of rows that there is."""
    if "widths" not in arrays:
        kinds = [int(part[6:]) for part in arrays if part[:6] == "codes." and part[6:].isdigit()]
        kinds += [KEPT] if f"rows.{KEPT}" in arrays else []
        return np.full(outputs, kinds[0] if len(kinds) == 1 else spec.bits)
    table = unpack_bits(jnp.asarray(arrays["widths"]), outputs, WIDTH_TABLE_BITS)
    widths = np.asarray(table).astype(np.int64)
    return np.where(widths == WHOLE_ROW, KEPT, widths + 2)


def _said(entry: tuple[np.dtype, tuple[int, ...]] | None) -> str:
    return "nothing" if entry is None else f"{entry[0].name} {entry[1]}"
