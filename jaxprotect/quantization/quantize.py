"""Fake quantization of a whole parameter tree under a mask: (params, mask, spec) -> params."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, is_eligible, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths, map_leaves

Mask = dict
"""A tree like the params; leaves are bool and broadcastable to theirs; True = protected."""


def code_limits(spec: QuantSpec) -> tuple[int, int]:
    """Smallest and largest integer code: [-2^(b-1), 2^(b-1) - 1], or [0, 2^b - 1] asymmetric."""
    if spec.symmetric:
        return -(2 ** (spec.bits - 1)), 2 ** (spec.bits - 1) - 1
    return 0, 2**spec.bits - 1


def exact_divide(a: Float[Array, "..."], b: Float[Array, "..."] | int) -> Float[Array, "..."]:
    """a / b, correctly rounded, for any b that broadcasts.

    XLA turns division by a constant or a broadcast value into multiplication by its reciprocal,
    which is often off by one unit in the last place: enough to move a weight to another level.
    min(|a|, 0) is 0, but XLA does not know that, and so divides.
    """
    return a / (b + jnp.minimum(jnp.abs(a), 0.0))


def scale_blocks(
    weights: Shaped[Array, "..."], path: str, spec: QuantSpec
) -> tuple[Shaped[Array, "..."], tuple[int, ...]]:
    """View a leaf so that the weights of one scale span whole axes.

    Groups split the contracted axes in two, (group, inputs of the group), padded with zeros to a
    whole number of groups. A tensor is one layer's slice of a stacked leaf. Leaves without inputs
    (norms, biases) always have one scale per tensor.

    Args:
        weights: the leaf, or its mask.
        path: its path, which names its axes.
        spec: the quantizer.

    Returns:
        The view, and the axes that share one scale.
    """
    contracted = contracted_axes(path)
    if spec.granularity == "tensor" or not contracted:
        return weights, tuple(a for a in range(weights.ndim) if a != layer_axis(path))
    if spec.granularity == "channel":
        return weights, contracted
    first, count = contracted[0], len(contracted)
    before, after = weights.shape[:first], weights.shape[first + count :]
    inputs = math.prod(weights.shape[first : first + count])
    groups = -(-inputs // spec.group_size)
    flat = weights.reshape(*before, inputs, *after)
    padding = [(0, 0)] * flat.ndim
    padding[first] = (0, groups * spec.group_size - inputs)
    view = jnp.pad(flat, padding).reshape(*before, groups, spec.group_size, *after)
    return view, (first + 1,)


def from_scale_blocks(
    view: Float[Array, "..."], shape: tuple[int, ...], path: str, spec: QuantSpec
) -> Float[Array, "..."]:
    """Undo `scale_blocks`: drop the padding and restore the leaf's shape."""
    contracted = contracted_axes(path)
    if view.shape == shape or not contracted:
        return view
    first, count = contracted[0], len(contracted)
    inputs = math.prod(shape[first : first + count])
    flat = view.reshape(*shape[:first], -1, *shape[first + count :])
    return jax.lax.slice_in_dim(flat, 0, inputs, axis=first).reshape(shape)


def scale_and_zero(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Scale and zero point of each block, from the counted weights.

    Symmetric: scale = max|w| / qmax, zero = 0. Asymmetric: scale = (max - min) / (2^b - 1) over
    the range widened to include 0, zero = round(-min / scale). A block without counted weights,
    or of zeros only, has scale 1.

    Args:
        view: blocked weights.
        counted: True where a weight takes part in the range.
        axes: axes of a block.
        spec: the quantizer.

    Returns:
        (scale, zero), with the block axes kept at size 1.
    """
    counted_view = jnp.where(counted, view, 0.0)
    low_code, high_code = code_limits(spec)
    if spec.symmetric:
        reach = jnp.max(jnp.abs(counted_view), axis=axes, keepdims=True)
        scale = jnp.where(reach > 0, exact_divide(reach, high_code), 1.0)
        return scale, jnp.zeros_like(scale)
    low = jnp.min(counted_view, axis=axes, keepdims=True)
    high = jnp.max(counted_view, axis=axes, keepdims=True)
    scale = jnp.where(high > low, exact_divide(high - low, high_code - low_code), 1.0)
    return scale, jnp.round(exact_divide(-low, scale))


def quantize_leaf(
    weights: Float[Array, "..."], protected: Bool[Array, "..."], path: str, spec: QuantSpec
) -> Float[Array, "..."]:
    """Round one eligible leaf to its grid where it is not protected.

    w_q = scale * (clip(round(w / scale) + zero, low, high) - zero), rounding half to even.

    Args:
        weights: the leaf.
        protected: True = keep; broadcastable to `weights`.
        path: leaf path.
        spec: the quantizer.

    Returns:
        The leaf as the quantized model computes with it, same shape and dtype.
    """
    kept = weights.astype(spec.protected_dtype).astype(weights.dtype)
    mask = jnp.broadcast_to(protected, weights.shape)
    view, axes = scale_blocks(weights.astype(jnp.float32), path, spec)
    if spec.scale_from == "unprotected":
        counted = ~scale_blocks(mask, path, spec)[0]
    else:
        counted = jnp.ones((), bool)
    scale, zero = scale_and_zero(view, counted, axes, spec)
    low_code, high_code = code_limits(spec)
    codes = jnp.clip(jnp.round(exact_divide(view, scale)) + zero, low_code, high_code)
    rounded = from_scale_blocks((codes - zero) * scale, weights.shape, path, spec)
    return jnp.where(mask, kept, rounded.astype(weights.dtype))


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


def quantize(params: Params, mask: Mask, spec: QuantSpec, config: ModelConfig) -> Params:
    """Quantize every eligible weight that the mask does not protect.

    Everything protected (in float32) is the identity; nothing protected is plain quantization.
    Pure and jit-able with `spec` and `config` static. The tied head is the token embedding's leaf,
    so it is quantized once.

    Args:
        params: parameter tree.
        mask: tree of the same structure; bool leaves broadcastable to the params; True = protect.
        spec: the quantizer.
        config: the architecture that `params` and `mask` must fit.

    Returns:
        A tree of the same shapes and dtypes, holding the values the quantized model uses.

    Raises:
        InputError: `params` or `mask` does not fit `config`.
    """
    check_tree("params", params, config)
    check_tree("mask", mask, config)

    def leaf(path: str, weights: Array, protected: Array | np.ndarray) -> Array:
        if not is_eligible(path, spec.eligible):
            return weights
        return quantize_leaf(weights, jnp.asarray(protected), path, spec)

    return map_leaves(leaf, params, mask)


quantize_tree = jax.jit(quantize, static_argnums=(2, 3))
"""`quantize`, compiled once per kind of mask and quantizer."""
