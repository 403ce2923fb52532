"""Packed arrays -> a parameter tree that stays packed, and from there the dense one."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, is_eligible, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.quantization.bit_packing import pack_bits, unpack_bits
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.index_arrays import Arrays
from jaxprotect.quantization.layout import layers_of
from jaxprotect.quantization.matrices import (
    from_matrix,
    matrix_axes,
    tensor_name,
    tensor_shape,
)
from jaxprotect.quantization.packed_kernel import (
    TILE,
    Kind,
    PackedKernel,
    Sparse,
    kind_bits,
    packed_dense,
)
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.stored_tensor import StoredTensor, read_tensor
from jaxprotect.trees import map_leaves


def packed_params(read: Callable[[str], Arrays], spec: QuantSpec, config: ModelConfig) -> Params:
    """A parameter tree whose matrices are `PackedKernel`s; norms and biases are float32 arrays.

    Args:
        read: tensor name -> its arrays by part, see `pack_tensors`; called once for each tensor.
        spec: the quantizer they were packed with.
        config: the architecture.

    Returns:
        Params for `forward`.

    Raises:
        InputError: arrays that no such model has, by tensor.
    """

    def leaf(path: str, shape: jax.ShapeDtypeStruct) -> Array | PackedKernel:
        names = [tensor_name(path, layer) for layer in layers_of(path, shape.shape)]
        if not is_eligible(path, spec.eligible):
            dense = [_plain(name, read(name), path, shape.shape, spec) for name in names]
            return jnp.asarray(np.stack(dense) if layer_axis(path) == 0 else dense[0])
        tensors = [read_tensor(name, read(name), path, shape.shape, spec) for name in names]
        kernel = _kernel(tensors, path, shape.shape, spec)
        return kernel if contracted_axes(path) else unpack_leaf(kernel, path, shape.shape)

    return map_leaves(leaf, parameter_shapes(config))


def unpack_params(params: Params, config: ModelConfig) -> Params:
    """The dense tree that packed params stand for, bit for bit what `quantize` made.

    Args:
        params: of `packed_params`; dense leaves stay as they are.
        config: the architecture.

    Returns:
        float32 arrays.
    """

    def leaf(path: str, shape: jax.ShapeDtypeStruct, value: Array | PackedKernel) -> Array:
        packed = isinstance(value, PackedKernel)
        return unpack_leaf(value, path, shape.shape) if packed else value

    return map_leaves(leaf, parameter_shapes(config), params)


def is_packed(params: Params) -> bool:
    """Whether a leaf of the params is packed."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, PackedKernel))
    return any(isinstance(leaf, PackedKernel) for leaf in leaves)


def check_dense(name: str, params: Params) -> None:
    """Refuse packed params where every weight is needed.

    Args:
        name: the argument's name, for the message.
        params: the params.

    Raises:
        InputError: they are packed.
    """
    if is_packed(params):
        raise InputError(
            f"`{name}` is a packed model; allowed: the model it came from, or its dense weights "
            "(`unpack_params`)"
        )


@functools.partial(jax.jit, static_argnames=("path", "shape"))
def unpack_leaf(kernel: PackedKernel, path: str, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """One leaf of `unpack_params`."""
    stacked = layer_axis(path) is not None
    matrix = jax.lax.map(packed_dense, kernel) if stacked else packed_dense(kernel)
    return from_matrix(matrix, path, tensor_shape(path, shape))


def _plain(
    name: str, arrays: Arrays, path: str, shape: tuple[int, ...], spec: QuantSpec
) -> np.ndarray:
    """A tensor that is not eligible."""
    wanted = np.dtype(spec.other_dtype), tensor_shape(path, shape)
    found = {part: (array.dtype, array.shape) for part, array in arrays.items()}
    if found != {"": wanted}:
        raise InputError(f"tensor `{name}` has {found}; expected {wanted[0].name} {wanted[1]}")
    return arrays[""].astype(np.float32)


def _kernel(
    tensors: Sequence[StoredTensor], path: str, shape: tuple[int, ...], spec: QuantSpec
) -> PackedKernel:
    """The tensors of one leaf, stacked where the leaf has layers."""
    inner = tensor_shape(path, shape)
    outputs = [inner[axis] for axis in matrix_axes(path, len(inner))[0]]
    rows, inputs = math.prod(outputs), tensors[0].inputs
    tiles = math.ceil(rows / max(8, TILE // inputs // 8 * 8))
    tile_rows = math.ceil(rows / tiles / 8) * 8
    per_tensor = spec.granularity == "tensor" or not contracted_axes(path)
    of_rows = [_row_kinds(tensor, spec) for tensor in tensors]
    kinds = sorted({kind for of in of_rows for kind in of}, key=lambda k: (kind_bits(k), str(k)))
    layers = [
        _arrays(tensor, of, kinds, tile_rows, per_tensor)
        for tensor, of in zip(tensors, of_rows, strict=True)
    ]
    longest = {part: max(len(layer[part]) for layer in layers) for part in layers[0]}
    entries = max(int(np.diff(layer["start"][::tile_rows]).max(initial=0)) for layer in layers)
    longest["position"] += entries  # a whole tile's entries can be read wherever it starts
    longest["value"] += entries
    stacked = {
        part: np.stack([_padded(layer[part], longest[part], part) for layer in layers])
        for part in layers[0]
    }
    if layer_axis(path) is None:
        stacked = {part: array[0] for part, array in stacked.items()}
    of = {part: jnp.asarray(array) for part, array in stacked.items()}
    sparse = Sparse(
        position=of["position"],
        value=of["value"],
        start=of["start"],
        of_tile=entries,
        of_row=max(int(np.diff(layer["start"]).max(initial=0)) for layer in layers),
    )
    return PackedKernel(
        units=of["units"],
        kind=of["kind"],
        first=of["first"],
        scale=of["scale"],
        zero=of.get("zero"),
        value_scale=of["value_scale"][..., 0],
        sparse=sparse if entries else None,
        order=None if (stacked["order"] == np.arange(rows)).all() else of["order"],
        kinds=tuple(kinds),
        tile_rows=tile_rows,
        inputs=inputs,
        group_size=spec.group_size,
        outputs=tuple(outputs),
    )


def _row_kinds(tensor: StoredTensor, spec: QuantSpec) -> list[Kind]:
    """What each row is kept as in memory; a row that is protected as a whole needs no codes."""
    return [
        spec.other_dtype if width == KEPT else spec.protected_dtype if full else width
        for width, full in zip(tensor.widths.tolist(), tensor.full.tolist(), strict=True)
    ]


def _arrays(
    tensor: StoredTensor,
    row_kinds: list[Kind],
    kinds: list[Kind],
    tile_rows: int,
    per_tensor: bool,
) -> dict[str, np.ndarray]:
    """The arrays of one layer, not yet padded to the longest layer's."""
    groups, unit = tensor.scales.shape[1], tile_rows * tensor.inputs // 8
    kind_of_row = np.array([kinds.index(kind) for kind in row_kinds])
    pieces, tile_kind, first, order = [], [], [], np.empty(len(kind_of_row), np.int32)
    used = 0
    for number, kind in enumerate(kinds):
        rows = np.flatnonzero(kind_of_row == number)
        count = math.ceil(len(rows) / tile_rows)
        order[rows] = len(tile_kind) * tile_rows + np.arange(len(rows))
        piece = np.zeros((count * kind_bits(kind), unit), np.uint8)
        data = _row_bytes(tensor, kind, rows)
        piece.reshape(-1)[: len(data)] = data
        pieces.append(piece)
        first += [used + i * kind_bits(kind) for i in range(count)]
        tile_kind += [number] * count
        used += len(piece)
    stored = len(tile_kind) * tile_rows
    room = max(first) + max(map(kind_bits, kinds)) - used  # every tile is read at full length
    arrays = {
        "units": np.concatenate([*pieces, np.zeros((max(room, 0), unit), np.uint8)]),
        "kind": np.array(tile_kind, np.int32),
        "first": np.array(first, np.int32),
        "order": order,
    }
    for part, numbers in (("scale", tensor.scales), ("zero", tensor.zeros)):
        if numbers is not None and len(numbers) == len(order) and not per_tensor:
            spread = np.ones((stored, groups), numbers.dtype)
            spread[order] = numbers
            numbers = spread
        if numbers is not None:
            arrays[part] = numbers
    return arrays | _sparse_arrays(tensor, order, stored, tile_rows)


def _row_bytes(tensor: StoredTensor, kind: Kind, rows: np.ndarray) -> np.ndarray:
    """The bytes of rows of one kind."""
    if isinstance(kind, int):
        of_width = np.flatnonzero(tensor.widths == kind)
        if len(rows) in (0, len(of_width)):
            return tensor.codes[kind] if len(rows) else np.zeros(0, np.uint8)
        count = len(of_width) * tensor.inputs
        codes = np.asarray(unpack_bits(jnp.asarray(tensor.codes[kind]), count, kind)).reshape(
            -1, tensor.inputs
        )
        return pack_bits(codes[np.isin(of_width, rows)].reshape(-1), kind)
    is_kept = tensor.widths == KEPT
    values = np.zeros((len(rows), tensor.inputs), np.dtype(kind))
    if is_kept[rows].any():
        values[is_kept[rows]] = tensor.kept
    if (full := tensor.full[rows] & ~is_kept[rows]).any():
        of_full = np.repeat(tensor.full, tensor.counts)
        values[full] = tensor.values[of_full].reshape(-1, tensor.inputs)
    return values.reshape(-1).view(np.uint8)


def _sparse_arrays(
    tensor: StoredTensor, order: np.ndarray, stored: int, tile_rows: int
) -> dict[str, np.ndarray]:
    """Protected weights of coded rows, sorted by stored row."""
    counts = np.where(tensor.full, 0, tensor.counts)
    of_entry = order[np.repeat(np.arange(len(counts)), counts)]
    sorted_ = np.argsort(of_entry, kind="stable")
    local = (of_entry % tile_rows).astype(np.int64) * tensor.inputs + tensor.columns
    narrow = tile_rows * tensor.inputs <= 2**16
    values = tensor.values[~np.repeat(tensor.full, tensor.counts)]
    start = np.concatenate([[0], np.cumsum(np.bincount(of_entry, minlength=stored))])
    return {
        "position": local[sorted_].astype(np.uint16 if narrow else np.uint32),
        "value": values[sorted_],
        "start": start.astype(np.int32),
        "value_scale": tensor.value_scale,
    }


def _padded(array: np.ndarray, length: int, part: str) -> np.ndarray:
    """An array as long as the longest layer's; rows after the last start where it ends."""
    if len(array) == length:
        return array
    padding = [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, padding, mode="edge" if part == "start" else "constant")
