"""(params, mask, spec) -> the arrays of a packed model, one checkpoint tensor at a time."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import here, on_host
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.bit_packing import pack_bits
from jaxprotect.quantization.grid import KEPT, Bits, Grids, leaf_grid
from jaxprotect.quantization.index_arrays import Arrays, write_index
from jaxprotect.quantization.layout import layers_of, scale_shape
from jaxprotect.quantization.levels import Grid
from jaxprotect.quantization.matrices import as_matrix, matrix_axes, tensor_name, tensor_shape
from jaxprotect.quantization.quantize import (
    Mask,
    check_arguments,
    encode_leaf,
    protected_codes,
    protected_scale,
)
from jaxprotect.quantization.size import checked_flags
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import WIDTH_TABLE_BITS, row_widths
from jaxprotect.trees import leaf_paths

WHOLE_ROW = 2**WIDTH_TABLE_BITS - 1
"""Entry of the table of widths that means 16 bits; the others are width - 2."""


def pack_tensors(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    *,
    bits: Bits | None = None,
    grids: Grids | None = None,
) -> Iterator[tuple[str, Arrays]]:
    """The packed arrays of every checkpoint tensor, as `layout` describes them.

    What they unpack to is `quantize(params, mask, spec, config, bits=bits, grids=grids)`, bit for
    bit. One tensor is on the host at a time.

    Args:
        params: float32 parameter tree.
        mask: as for `quantize`, with bool leaves.
        spec: the quantizer.
        config: the architecture.
        bits: as for `quantize`.
        grids: as for `quantize`.

    Yields:
        The tensor's name, and its arrays by part; a tensor that is not eligible has one part, "".

    Raises:
        InputError: as `quantize`; params that are not float32; stored values that are not finite,
            or a zero point that is not a code, by tensor.
    """
    eligible = check_arguments(params, mask, spec, config, bits, grids)
    leaves = leaf_paths(params)
    flags = checked_flags(mask, {path: leaf.shape for path, leaf in leaves.items()})
    for path, leaf in leaves.items():
        if leaf.dtype != np.float32:
            raise InputError(f"`params` at {path} are {leaf.dtype}; packed are float32 params")
        channels = None if bits is None or path not in eligible else bits.get(path)
        grid = None if grids is None else grids.get(path)
        for layer in layers_of(path, leaf.shape):
            name, weights = (
                tensor_name(path, layer),
                jnp.asarray(here(_of_layer(leaf, path, layer))),
            )
            if path not in eligible:
                values = np.asarray(weights.astype(spec.other_dtype))
                yield name, {"": _finite(values if layer is None else values[0], name, "values")}
                continue
            of_layer = functools.partial(_of_layer, path=path, layer=layer)
            packer = functools.partial(
                _pack_tensor, weights, on_host(of_layer(flags[path])), path, spec
            )
            of_tensor = None if channels is None else of_layer(on_host(channels))
            yield name, packer(name, of_tensor, None if grid is None else _of_grid(grid, of_layer))


def _of_layer(values: Any, path: str, layer: int | None) -> Any:
    """One layer of a leaf or of what broadcasts to it, with the layer axis kept."""
    if layer is None:
        return values
    return values[layer : layer + 1] if values.shape[0] > 1 else values


def _of_grid(grid: Grid, of_layer: Any) -> Grid:
    return Grid(scale=here(of_layer(grid.scale)), zero=here(of_layer(grid.zero)))


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _encode(
    weights: Array, protected: Array, bits: Bits | None, grid: Grid | None, path: str, spec: Any
) -> tuple[Array, Grid]:
    if grid is None:
        grid = leaf_grid(weights, protected, path, spec, bits)
    return encode_leaf(weights, grid, path, spec, bits), grid


def _pack_tensor(
    weights: Array,
    protected: np.ndarray,
    path: str,
    spec: QuantSpec,
    name: str,
    channels: np.ndarray | None,
    grid: Grid | None,
) -> Arrays:
    """The arrays of one eligible tensor; all arguments with the layer axis, of length 1."""
    inside = (lambda a: a) if layer_axis(path) is None else (lambda a: a[0])
    protected = np.broadcast_to(protected, weights.shape)
    outputs = as_matrix(inside(protected), path).shape[0]
    widths = np.full(outputs, spec.bits)
    sparse = protected
    if channels is not None:
        widths = row_widths(channels, path, weights.shape)[0]
        sparse = protected & (channels != KEPT)
    flags = as_matrix(inside(sparse), path)
    index_format, index = write_index(np.ascontiguousarray(flags))
    arrays = dict(index)
    if flags.any():
        arrays |= _values(weights, sparse, flags, path, spec, inside)
        _finite(arrays["values"], name, "protected values")
    if index_format == "whole":
        return arrays
    bits = None if channels is None else {path: jnp.asarray(channels)}
    codes, used = _encode(weights, jnp.asarray(protected), bits, grid, path=path, spec=spec)
    matrix = as_matrix(inside(np.asarray(codes)), path)
    for width in np.unique(widths).tolist():
        rows = widths == width
        if width == KEPT:
            kept = as_matrix(inside(np.asarray(weights.astype(spec.other_dtype))), path)[rows]
            arrays[f"rows.{KEPT}"] = _finite(kept, name, "rows of 16 bits")
        else:
            of_width = matrix if rows.all() else matrix[rows]
            arrays[f"codes.{width}"] = pack_bits(of_width.reshape(-1), width)
    if len(np.unique(widths)) > 1:
        table = np.where(widths == KEPT, WHOLE_ROW, widths - 2).astype(np.uint8)
        arrays["widths"] = pack_bits(table, WIDTH_TABLE_BITS)
    return arrays | _grid_arrays(used, weights.shape, widths != KEPT, path, spec, name)


def _values(
    weights: Array, sparse: np.ndarray, flags: np.ndarray, path: str, spec: QuantSpec, inside: Any
) -> Arrays:
    """The protected values in row-major order, and in INT8 their scale."""
    if spec.protected_dtype != "int8":
        stored = np.asarray(weights.astype(spec.protected_dtype))
        return {"values": as_matrix(inside(stored), path)[flags]}
    scale = protected_scale(weights, jnp.asarray(sparse), path)
    stored = np.asarray(protected_codes(weights, scale))
    values = as_matrix(inside(stored), path)[flags]
    return {"values": values, "value_scale": np.asarray(scale).reshape(1)}


def _grid_arrays(
    grid: Grid, shape: tuple[int, ...], coded: np.ndarray, path: str, spec: QuantSpec, name: str
) -> Arrays:
    """Scales and zero points of the rows that have codes, checked for what bytes can hold."""
    scales = _finite(_by_row(grid.scale, shape, path, spec, name), name, "scales")
    zeros = _by_row(grid.zero, shape, path, spec, name)
    if not np.isin(zeros, np.arange(1 if spec.symmetric else 256)).all():
        allowed = "0, as `spec.symmetric` is true" if spec.symmetric else "whole numbers 0 to 255"
        raise InputError(f"`grids`: tensor `{name}` has other zero points; allowed: {allowed}")
    if not coded.any():
        return {}
    rows = coded if len(scales) == len(coded) else slice(None)
    arrays = {"scales": scales[rows].astype(np.float32)}
    return arrays if spec.symmetric else arrays | {"zeros": zeros[rows].astype(np.uint8)}


def _by_row(
    values: Array, shape: tuple[int, ...], path: str, spec: QuantSpec, name: str
) -> np.ndarray:
    """One number per block, in the axes of the block view -> [rows, groups]."""
    shape = tensor_shape(path, shape)
    found = np.asarray(values)
    found = found if layer_axis(path) is None else found[0]
    outputs, inputs = matrix_axes(path, len(shape))
    rows, groups = scale_shape(
        path, math.prod(shape[a] for a in outputs), math.prod(shape[a] for a in inputs), spec
    )
    one_each = [shape[a] if a in outputs and rows > 1 else 1 for a in range(len(shape))]
    grouped = spec.granularity == "group" and contracted_axes(path)
    if grouped:
        one_each[inputs[0] : inputs[-1] + 1] = [groups, 1]
    try:
        found = np.broadcast_to(found, one_each)
    except ValueError:
        raise InputError(
            f"`grids`: tensor `{name}` has numbers of shape {found.shape}; its blocks have "
            f"{tuple(one_each)}"
        ) from None
    return (np.moveaxis(found, inputs[0], -1) if grouped else found).reshape(rows, groups)


def _finite(values: np.ndarray, name: str, what: str) -> np.ndarray:
    if values.dtype.kind in "iu":
        return values
    bad = values.size - int(np.isfinite(values.astype(np.float32)).sum())
    if bad:
        raise InputError(
            f"tensor `{name}` has {bad} non-finite of {values.size} {what} in {values.dtype}; "
            "allowed: none (a wider `spec.protected_dtype` holds larger ones)"
        )
    return values
