"""Units of mixed precision: groups of output channels that get one width together.

Widths differ by output channel only: the slice of an output projection that belongs to a head lies
along its inputs, so it cannot have a width of its own, and a head is its q, k and v channels.
Heads that share keys and values are one unit: a shared channel has one width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.axes import contracted_axes, head_axis, is_eligible, layer_axis
from jaxprotect.quantization.grid import KEPT, Bits
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import (
    DTYPE_BYTES,
    SCALE_BYTES,
    WIDTH_TABLE_BITS,
    ZERO_POINT_BYTES,
)
from jaxprotect.trees import leaf_paths

Level = Literal["layer", "tensor", "head", "channel"]
"""What gets one width together: all matrices of a block; a checkpoint tensor; the q, k and v
channels of a head, or of the heads that share keys and values (else a tensor); an output channel.
Outside blocks a layer is a tensor."""
LEVELS: tuple[Level, ...] = get_args(Level)

WIDTHS = (2, 3, 4, 5, 6, 7, 8, KEPT)
"""All widths that an output channel can have."""

Units = dict[str, np.ndarray]
"""Leaf path -> unit of every output channel: integers from 0, shaped like `Bits`."""

_HEADS = ("blocks/attention/qkv/kernel", *(f"blocks/attention/{n}/kernel" for n in "qkv"))


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitBytes:
    """What units cost at each width; a model's size is at most their sum, tables, and the rest.

    Args:
        bytes: [U, B] codes, scales and values, each unit's part of a tensor in whole bytes.
        tables: bytes of the width tables, if every tensor that may have one has one.
        rounding: bytes by which the sum can be too large, since a tensor rounds once per width.
    """

    bytes: Float[np.ndarray, "U B"]
    tables: int
    rounding: float


def check_widths(widths: Sequence[int]) -> None:
    """Refuse widths that no output channel has.

    Args:
        widths: such as `WIDTHS`.

    Raises:
        InputError: none, one twice, or others than 2 to 8 and 16.
    """
    odd = sorted(set(widths) - set(WIDTHS))
    if odd or not widths or len(set(widths)) < len(widths):
        raise InputError(f"`widths` is {tuple(widths)}; allowed are some of {WIDTHS}, each once")


def channel_shape(path: str, shape: tuple[int, ...], spec: QuantSpec) -> tuple[int, ...]:
    """The shape of a leaf's `Bits`: 1 along inputs; along all but layers, if scales are per tensor.

    Args:
        path: leaf path.
        shape: the leaf's.
        spec: the quantizer.

    Returns:
        As many axes as `shape`.
    """
    inner = contracted_axes(path)
    if spec.granularity == "tensor" or not inner:
        inner = tuple(axis for axis in range(len(shape)) if axis != layer_axis(path))
    return tuple(1 if axis in inner else size for axis, size in enumerate(shape))


def unit_ids(params_or_shapes: Any, level: Level | str, spec: QuantSpec) -> Units:
    """The unit of every output channel of every eligible leaf.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        level: what gets one width together, one of `LEVELS`.
        spec: the quantizer.

    Returns:
        Leaf path -> units, numbered from 0 without gaps.

    Raises:
        InputError: an unknown level, or one inside tensors that have one scale each.
    """
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
    if spec.granularity == "tensor" and level in ("head", "channel"):
        raise InputError(
            f"`level` is {level!r}, which needs scales inside tensors; {spec.label} allows "
            "layer and tensor"
        )
    leaves = leaf_paths(params_or_shapes)
    found: Units = {}
    first: dict[str, int] = {}
    total = 0
    for path, leaf in leaves.items():
        if not is_eligible(path, spec.eligible):
            continue
        full = channel_shape(path, tuple(leaf.shape), spec)
        depth = full[0] if layer_axis(path) == 0 else 1
        axes, sharing = [depth, *[1] * (len(full) - 1)], 1
        group = path
        if level == "channel":
            axes = list(full)
        elif level == "layer" and layer_axis(path) == 0:
            group = "blocks"
        elif level == "head" and path in _HEADS:
            heads = head_axis(path)
            assert heads is not None
            axes[heads], group = min(_head_counts(leaves)), "heads"
            sharing = full[heads] // axes[heads]
        count = math.prod(axes)
        if group not in first:
            first[group], total = total, total + count
        ids = first[group] + np.arange(count).reshape(axes)
        if sharing > 1:
            ids = np.repeat(ids, sharing, axis=head_axis(path))
        found[path] = np.broadcast_to(ids, full)
    return found


def _head_counts(leaves: dict[str, Any]) -> list[int]:
    """Heads of the projections: as many of queries as of keys, or more."""
    axes = {path: head_axis(path) for path in _HEADS if path in leaves}
    return [leaves[path].shape[axis] for path, axis in axes.items() if axis is not None]


def unit_count(units: Units) -> int:
    """How many units there are."""
    return 1 + max(int(ids.max()) for ids in units.values())


def bits_of_units(units: Units, widths: Int[np.ndarray, "U"]) -> Bits:
    """The bits of every output channel.

    Args:
        units: see `Units`.
        widths: [U] of each unit.

    Returns:
        Leaf path -> integers of the shapes of `units`.
    """
    return {path: widths[ids].astype(np.int32) for path, ids in units.items()}


def uniform_bits(units: Units, width: int) -> Bits:
    """The same width everywhere."""
    return {path: np.full(ids.shape, width, np.int32) for path, ids in units.items()}


def unit_bytes(
    params_or_shapes: Any, units: Units, spec: QuantSpec, widths: Sequence[int]
) -> UnitBytes:
    """Bytes of each unit at each width, by the formulas of `tensor_size.dense_bytes`.

    codes: weights * b / 8 of each tensor's part, rounded up; scales: one per block; at 16 bits
    neither, but values in `spec.other_dtype`.

    Args:
        params_or_shapes: parameter tree, or its shapes.
        units: of `unit_ids`.
        spec: the quantizer.
        widths: widths to cost.

    Returns:
        The bytes, and what the sum leaves out or counts too much.

    Raises:
        InputError: widths that no output channel has.
    """
    check_widths(widths)
    leaves = leaf_paths(params_or_shapes)
    total = np.zeros((unit_count(units), len(widths)))
    tables, rounding = 0, 0.0
    scale = SCALE_BYTES + (0 if spec.symmetric else ZERO_POINT_BYTES)
    for path, ids in units.items():
        weights_each = math.prod(leaves[path].shape) // ids.size
        blocks_each = 1
        if spec.granularity == "group" and contracted_axes(path):
            blocks_each = -(-weights_each // spec.group_size)
        for of_tensor in ids.reshape(ids.shape[0] if layer_axis(path) == 0 else 1, -1):
            members, counts = np.unique(of_tensor, return_counts=True)
            for column, width in enumerate(widths):
                if width == KEPT:
                    cost = counts * weights_each * DTYPE_BYTES[spec.other_dtype]
                else:
                    cost = -(-counts * weights_each * width // 8) + counts * blocks_each * scale
                total[members, column] += cost
            if len(members) > 1:
                tables += -(-of_tensor.size * WIDTH_TABLE_BITS // 8)
                odd = (counts * weights_each) % 8 != 0
                rounding += float(np.count_nonzero(odd)) * 7 / 8
    return UnitBytes(bytes=total, tables=tables, rounding=rounding)
