"""A matrix that stays packed: its product, its rows and its dense form, decoded tile by tile.

The rows of a kind (codes of one width, rows of 16 bits, rows protected as a whole) lie together,
in tiles of R rows. R is a multiple of 8, so that a tile of b bits is b units of R * inputs / 8
bytes, whatever b is: stored rows of 8 bits and of 3 share one array, and every tile starts at a
unit. Protected weights inside coded rows are a list, sorted by stored row, that is written over
the decoded tile. Leaves of several layers have all arrays stacked, padded to the longest.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt8

from jaxprotect.products import einsum
from jaxprotect.quantization.bit_packing import unpack_bits

Kind = int | str
"""What a row is stored as: codes of 2 to 8 bits, or values of a dtype, named."""

TILE = 2**16
"""Most weights decoded at a time: 256 KiB of float32, a core's cache."""


def kind_bits(kind: Kind) -> int:
    """Bits of one weight of a kind."""
    return kind if isinstance(kind, int) else 8 * np.dtype(kind).itemsize


@struct.dataclass
class Sparse:
    """Protected weights inside coded rows.

    Args:
        position: row in tile * inputs + column, of every entry.
        value: its value, in the protected dtype.
        start: where the entries of each stored row start, and where the last ends.
        of_tile: most entries of a tile (static).
        of_row: most entries of a row (static).
    """

    position: Any
    value: Any
    start: Any
    of_tile: int = struct.field(pytree_node=False)
    of_row: int = struct.field(pytree_node=False)


@struct.dataclass
class PackedKernel:
    """One leaf of a packed model, in the place of an array; fields are not type-checked.

    Args:
        units: [units, R * inputs / 8] bytes of all tiles.
        kind: of each tile, an index into `kinds`.
        first: the unit at which each tile starts.
        scale: [stored rows, groups], or [1, 1].
        zero: zero points like the scales, uint8; None when symmetric.
        value_scale: scale of protected weights in INT8; 1 otherwise.
        sparse: protected weights inside coded rows; None without any.
        order: stored row of each output; None where they are in order.
        kinds: kinds of rows (static).
        tile_rows: R (static).
        inputs: columns (static).
        group_size: inputs of one scale (static).
        outputs: shape of the outputs (static).
    """

    units: Any
    kind: Any
    first: Any
    scale: Any
    zero: Any
    value_scale: Any
    sparse: Sparse | None
    order: Any
    kinds: tuple[Kind, ...] = struct.field(pytree_node=False)
    tile_rows: int = struct.field(pytree_node=False)
    inputs: int = struct.field(pytree_node=False)
    group_size: int = struct.field(pytree_node=False)
    outputs: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def dtype(self) -> np.dtype:
        """What the decoded weights are."""
        return np.dtype(np.float32)

    def project(self, x: Float[Array, "..."], equation: str) -> Float[Array, "..."]:
        """`jnp.einsum(equation, x, kernel)`: all inputs are contracted, whatever they are called.

        Args:
            x: inputs, the contracted axes last.
            equation: of a product with the dense kernel.

        Returns:
            Outputs, their axes last.
        """
        into, of_kernel = equation.split("->")[0].replace("...", "").split(",")
        batch = x.shape[: x.ndim - sum(axis in of_kernel for axis in into)]
        y = packed_matmul(x.reshape(*batch, self.inputs), self)
        return y.reshape(*batch, *self.outputs)

    def __getitem__(self, index: Any) -> Float[Array, "... D"]:
        """Rows of an embedding, by an integer array or a slice of known bounds."""
        if isinstance(index, slice):
            index = jnp.arange(*index.indices(self.outputs[0]))
        return packed_rows(self, jnp.asarray(index))


def packed_matmul(
    x: Float[Array, "*batch inputs"], packed: PackedKernel
) -> Float[Array, "*batch outputs"]:
    """x W^T of a packed [outputs, inputs] matrix, R rows of it decoded at a time.

    Args:
        x: inputs.
        packed: the matrix (one layer of it).

    Returns:
        The product, in the dtype of `x`.
    """
    rows, tiles = packed.tile_rows, packed.kind.shape[0]
    # In order, the last tile is cut to what fits, so that logits are not copied to lose padding.
    in_order = packed.order is None
    width = max(rows, math.prod(packed.outputs)) if in_order else tiles * rows

    def add_tile(index: Any, y: Array) -> Array:
        tile = jnp.asarray(index)
        part = einsum("...i,ri->...r", x, decode_tile(packed, tile).astype(x.dtype))
        start = jnp.minimum(tile * rows, width - rows)
        before = tile * rows - start
        there = jax.lax.dynamic_slice_in_dim(y, start, rows, axis=-1)
        part = jnp.where(jnp.arange(rows) < before, there, jnp.roll(part, before, axis=-1))
        return jax.lax.dynamic_update_slice_in_dim(y, part, start, axis=-1)

    empty = jnp.zeros((*x.shape[:-1], width), x.dtype)
    y = jax.lax.fori_loop(0, tiles, add_tile, empty)
    return _in_order(y, packed, axis=-1)


def packed_dense(packed: PackedKernel) -> Float[Array, "outputs inputs"]:
    """The matrix that `packed` stands for (one layer of it), every bit as the quantizer made it."""
    tiles = packed.kind.shape[0]
    decoded = jax.lax.map(lambda tile: decode_tile(packed, tile), jnp.arange(tiles))
    return _in_order(decoded.reshape(-1, packed.inputs), packed, axis=0)


def _in_order(values: Array, packed: PackedKernel, axis: int) -> Array:
    """Stored rows as the outputs are numbered, without padding."""
    if packed.order is not None:
        return jnp.take(values, packed.order, axis=axis)
    return jax.lax.slice_in_dim(values, 0, math.prod(packed.outputs), axis=axis % values.ndim)


def decode_tile(packed: PackedKernel, tile: Int[Array, ""]) -> Float[Array, "R inputs"]:
    """The weights of one tile.

    Args:
        packed: the matrix (one layer of it).
        tile: which tile.

    Returns:
        float32 weights; arbitrary in rows that are padding.
    """
    rows, inputs = packed.tile_rows, packed.inputs
    longest = max(map(kind_bits, packed.kinds))
    units = jax.lax.dynamic_slice_in_dim(packed.units, packed.first[tile], longest)

    def of_tile(numbers: Array) -> Array:
        if numbers.shape[0] == 1:
            return numbers
        return jax.lax.dynamic_slice_in_dim(numbers, tile * rows, rows)

    scale = of_tile(packed.scale)
    zero = None if packed.zero is None else of_tile(packed.zero)

    def of_kind(kind: Kind) -> Array:
        used = units[: kind_bits(kind)].reshape(-1)
        if isinstance(kind, int):
            codes = unpack_bits(used, rows * inputs, kind).reshape(rows, inputs)
            return _levels(codes, kind, scale, zero, packed)
        shape = (rows, inputs, np.dtype(kind).itemsize)
        return _real(jax.lax.bitcast_convert_type(_bytes(used, shape), np.dtype(kind)), packed)

    branches = [lambda kind=kind: of_kind(kind) for kind in packed.kinds]
    decoded = branches[0]() if len(branches) == 1 else jax.lax.switch(packed.kind[tile], branches)
    if packed.sparse is None:
        return decoded
    sparse = packed.sparse
    start, end = sparse.start[tile * rows], sparse.start[(tile + 1) * rows]
    where = jax.lax.dynamic_slice_in_dim(sparse.position, start, sparse.of_tile)
    values = jax.lax.dynamic_slice_in_dim(sparse.value, start, sparse.of_tile)
    inside = start + jnp.arange(sparse.of_tile) < end
    where = jnp.where(inside, where.astype(jnp.int32), rows * inputs)
    flat = decoded.reshape(-1).at[where].set(_real(values, packed), mode="drop")
    return flat.reshape(rows, inputs)


def packed_rows(packed: PackedKernel, index: Int[Array, "..."]) -> Float[Array, "... inputs"]:
    """Some rows of a packed matrix; nothing else of it is decoded.

    Args:
        packed: the matrix.
        index: which rows.

    Returns:
        float32 rows.
    """
    stored = index if packed.order is None else packed.order[index]
    tile, row = stored // packed.tile_rows, stored % packed.tile_rows
    first, columns = packed.first[tile][..., None], jnp.arange(packed.inputs)
    whole = packed.scale.shape[0] == 1
    scale = packed.scale[0] if whole else packed.scale[stored]
    zero = None if packed.zero is None else (packed.zero[0] if whole else packed.zero[stored])
    length = packed.units.shape[1]

    def byte(number: Array) -> Array:
        # Unit and offset apart: the number of a byte of the whole matrix may need 64 bits.
        return packed.units[first + number // length, number % length]

    def of_kind(kind: Kind) -> Array:
        bit = (row[..., None] * packed.inputs + columns) * kind_bits(kind)
        if not isinstance(kind, int):
            parts = [byte(bit // 8 + k) for k in range(kind_bits(kind) // 8)]
            values = _bytes(jnp.stack(parts, axis=-1), (*bit.shape, len(parts)))
            return _real(jax.lax.bitcast_convert_type(values, np.dtype(kind)), packed)
        pair = byte(bit // 8).astype(jnp.int32) | byte((bit + kind - 1) // 8).astype(jnp.int32) << 8
        codes = (pair >> (bit % 8)) & (2**kind - 1)
        return _levels(codes, kind, scale, zero, packed)

    decoded = of_kind(packed.kinds[0])
    for number, kind in enumerate(packed.kinds[1:], 1):
        decoded = jnp.where((packed.kind[tile] == number)[..., None], of_kind(kind), decoded)
    if packed.sparse is None:
        return decoded
    sparse = packed.sparse
    start, end = sparse.start[stored], sparse.start[stored + 1]
    entries = start[..., None] + jnp.arange(sparse.of_row)
    column = sparse.position[entries].astype(jnp.int32) - row[..., None] * packed.inputs
    column = jnp.where(entries < end[..., None], column, packed.inputs)
    values = _real(sparse.value[entries], packed)
    put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
    flat = put(*(a.reshape(-1, a.shape[-1]) for a in (decoded, column, values)))
    return flat.reshape(decoded.shape)


def _levels(
    codes: Array, bits: int, scale: Array, zero: Array | None, packed: PackedKernel
) -> Array:
    """(code + low - zero) * scale, as `decode_leaf` computes it."""

    def spread(of_groups: Array) -> Array:
        if of_groups.shape[-1] == 1:
            return of_groups
        shape = (*of_groups.shape, packed.group_size)
        every = jnp.broadcast_to(of_groups[..., None], shape)
        return every.reshape(*of_groups.shape[:-1], -1)[..., : packed.inputs]

    origin = 2 ** (bits - 1) if zero is None else spread(zero).astype(jnp.float32)
    return (codes.astype(jnp.float32) - origin) * spread(scale)


def _bytes(values: UInt8[Array, "..."], shape: Sequence[int]) -> UInt8[Array, "..."]:
    """Bytes of numbers along the last axis; none for numbers of one byte, as a bitcast wants."""
    return values.reshape(shape[:-1] if shape[-1] == 1 else shape)


def _real(values: Array, packed: PackedKernel) -> Float[Array, "..."]:
    """Protected values in float32; in INT8 they are codes."""
    exact = values.astype(jnp.float32)
    is_code = values.dtype == jnp.int8
    return exact * packed.value_scale if is_code else exact
