"""Fake quantization of a whole parameter tree under a mask: (params, mask, spec) -> params."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int8, UInt8

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.quantization.blocks import from_scale_blocks, scale_blocks
from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.grid import (
    KEPT,
    Bits,
    Grids,
    block_bits,
    check_bits,
    leaf_grid,
)
from jaxprotect.quantization.levels import Grid, code_limits
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths, map_leaves

Mask = dict
"""A tree like the params; leaves are bool and broadcastable to theirs; True = protected."""


def encode_leaf(
    weights: Float[Array, "..."],
    grid: Grid,
    path: str,
    spec: QuantSpec,
    bits: Bits | None = None,
) -> UInt8[Array, "..."]:
    """Integer codes of a leaf on a grid, counted from the lowest level.

    code = clip(round(w / scale) + zero, low, high) - low, rounding half to even.

    Args:
        weights: the leaf.
        grid: its grid.
        path: its path.
        spec: the quantizer.
        bits: see `Bits`.

    Returns:
        Codes from 0 to 2^b - 1, shaped like the leaf.
    """
    view, _ = scale_blocks(weights.astype(jnp.float32), path, spec)
    low, high = code_limits(spec, block_bits(bits, path, spec))
    codes = jnp.clip(jnp.round(exact_divide(view, grid.scale)) + grid.zero, low, high)
    return from_scale_blocks((codes - low).astype(jnp.uint8), weights.shape, path, spec)


def decode_leaf(
    codes: UInt8[Array, "..."],
    grid: Grid,
    path: str,
    spec: QuantSpec,
    bits: Bits | None = None,
) -> Float[Array, "..."]:
    """The weights that codes stand for: (code + low - zero) * scale, in float32.

    Args:
        codes: of `encode_leaf`.
        grid: the grid they are on.
        path: leaf path.
        spec: the quantizer.
        bits: see `Bits`.

    Returns:
        Weights, shaped like the codes.
    """
    view, _ = scale_blocks(codes, path, spec)
    low, _ = code_limits(spec, block_bits(bits, path, spec))
    levels = (view.astype(jnp.float32) + low - grid.zero) * grid.scale
    return from_scale_blocks(levels, codes.shape, path, spec)


def protected_scale(
    weights: Float[Array, "..."], protected: Bool[Array, "..."], path: str
) -> Float[Array, "..."]:
    """Scale of the protected weights of each checkpoint tensor in INT8: max|w| / 127, or 1.

    Args:
        weights: the leaf.
        protected: True = protected; broadcastable to `weights`.
        path: its path.

    Returns:
        One scale per tensor, the other axes of size 1.
    """
    axes = tuple(a for a in range(weights.ndim) if a != layer_axis(path))
    reach = jnp.max(jnp.where(protected, jnp.abs(weights), 0.0), axis=axes, keepdims=True)
    return jnp.where(reach > 0, exact_divide(reach, 127), 1.0)


def stored_values(
    weights: Float[Array, "..."], protected: Bool[Array, "..."], path: str, spec: QuantSpec
) -> Float[Array, "..."]:
    """Protected weights as `spec.protected_dtype` keeps them, in the leaf's dtype."""
    if spec.protected_dtype != "int8":
        return weights.astype(spec.protected_dtype).astype(weights.dtype)
    scale = protected_scale(weights, protected, path)
    return protected_codes(weights, scale).astype(weights.dtype) * scale


def protected_codes(weights: Float[Array, "..."], scale: Float[Array, "..."]) -> Int8[Array, "..."]:
    """Codes -127 to 127 of protected weights in INT8: round(w / scale)."""
    return jnp.round(exact_divide(weights, scale)).astype(jnp.int8)


def quantize_leaf(
    weights: Float[Array, "..."],
    protected: Bool[Array, "..."],
    path: str,
    spec: QuantSpec,
    *,
    bits: Bits | None = None,
    grid: Grid | None = None,
) -> Float[Array, "..."]:
    """Round one eligible leaf to its grid where it is not protected.

    w_q = scale * (clip(round(w / scale) + zero, low, high) - zero), rounding half to even.

    Args:
        weights: the leaf.
        protected: True = keep; broadcastable to `weights`.
        path: leaf path.
        spec: the quantizer.
        bits: see `Bits`; channels of 16 bits are kept in `spec.other_dtype`.
        grid: the grid; by `spec.ranges` if not given.

    Returns:
        The leaf as the quantized model computes with it, same shape and dtype.
    """
    kept_channels = jnp.zeros((), bool)
    if bits is not None and path in bits:
        kept_channels = jnp.asarray(bits[path]) == KEPT
    mask = jnp.broadcast_to(protected, weights.shape)
    if grid is None:
        grid = leaf_grid(weights, mask, path, spec, bits)
    codes = encode_leaf(weights, grid, path, spec, bits)
    rounded = decode_leaf(codes, grid, path, spec, bits).astype(weights.dtype)
    sparse = mask & ~kept_channels
    quantized = jnp.where(sparse, stored_values(weights, sparse, path, spec), rounded)
    return jnp.where(kept_channels, _cast(weights, spec), quantized)


def quantize_any_leaf(
    weights: Float[Array, "..."],
    protected: Bool[Array, "..."],
    path: str,
    spec: QuantSpec,
    *,
    bits: Bits | None = None,
    grid: Grid | None = None,
) -> Float[Array, "..."]:
    """`quantize_leaf` of an eligible leaf; any other as `spec.other_dtype` stores it."""
    if not is_eligible(path, spec.eligible):
        return _cast(weights, spec)
    return quantize_leaf(weights, protected, path, spec, bits=bits, grid=grid)


def _cast(weights: Array, spec: QuantSpec) -> Array:
    return weights.astype(spec.other_dtype).astype(weights.dtype)


def check_tree(name: str, tree: dict, config: ModelConfig) -> None:
    """Refuse a tree whose leaves are not, or not broadcastable to, the architecture's.

    Args:
        name: the argument's name, for the message.
        tree: params or mask.
        config: the architecture.

    Raises:
        InputError: a leaf is missing, unknown or does not broadcast.
    """
    expected, found = leaf_paths(parameter_shapes(config)), leaf_paths(tree)
    if expected.keys() != found.keys():
        odd = sorted(expected.keys() ^ found.keys())
        raise InputError(f"`{name}` and the model differ in the leaves {odd}")
    for path, shape in expected.items():
        arrived = jnp.shape(found[path])
        try:
            fits = jnp.broadcast_shapes(arrived, shape.shape) == shape.shape
        except ValueError:
            fits = False
        if not fits:
            raise InputError(f"`{name}` at {path} has shape {arrived}; the model has {shape.shape}")


def check_arguments(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    bits: Bits | None,
    grids: Grids | None,
) -> dict[str, tuple[int, ...]]:
    """Refuse arguments of `quantize` that do not fit together.

    Returns:
        Path -> shape of the eligible leaves.

    Raises:
        InputError: see `quantize`.
    """
    check_tree("params", params, config)
    check_tree("mask", mask, config)
    shapes = {path: shape.shape for path, shape in leaf_paths(parameter_shapes(config)).items()}
    eligible = {path: s for path, s in shapes.items() if is_eligible(path, spec.eligible)}
    check_bits(bits or {}, eligible, spec)
    for path in grids or {}:
        if path not in eligible:
            raise InputError(f"`grids` has {path!r}; the eligible leaves are {sorted(eligible)}")
    return eligible


def quantize(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    *,
    bits: Bits | None = None,
    grids: Grids | None = None,
) -> Params:
    """Quantize every eligible weight that the mask does not protect.

    Everything protected (in float32) is the identity; nothing protected is plain quantization.
    Pure and jit-able with `spec` and `config` static; called by itself it compiles once per kind
    of mask and quantizer. The tied head is the token embedding's leaf, so it is quantized once.
    Leaves that are not eligible take the values that `spec.other_dtype` stores.

    Args:
        params: parameter tree.
        mask: tree of the same structure; bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.
        config: the architecture that `params` and `mask` must fit.
        bits: mixed precision: bits of output channels that do not have `spec.bits`.
        grids: grids of leaves that are not to have the one that `spec.ranges` gives.

    Returns:
        A tree of the same shapes and dtypes, holding the values the quantized model uses.

    Raises:
        InputError: `params`, `mask`, `bits` or `grids` does not fit `config`, or ranges that need
            data without `grids`.
    """
    check_arguments(params, mask, spec, config, bits, grids)
    return quantize_tree(params, mask, spec, config, bits=bits, grids=grids)


def quantize_leaves(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    *,
    bits: Bits | None = None,
    grids: Grids | None = None,
) -> Params:
    """`quantize` as a pure function: leaf by leaf where it is not compiled."""
    check_arguments(params, mask, spec, config, bits, grids)

    def leaf(path: str, weights: Array, protected: Array | np.ndarray) -> Array:
        grid = None if grids is None else grids.get(path)
        return quantize_any_leaf(weights, jnp.asarray(protected), path, spec, bits=bits, grid=grid)

    return map_leaves(leaf, params, mask)


quantize_tree = jax.jit(quantize_leaves, static_argnums=(2, 3))
"""`quantize_leaves`, compiled once per kind of mask and quantizer; numbers in `bits` go unread."""
