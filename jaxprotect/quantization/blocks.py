"""Leaves viewed so that the weights that share a scale span whole axes."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.quantization.spec import QuantSpec


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
    view: Shaped[Array, "..."], shape: tuple[int, ...], path: str, spec: QuantSpec
) -> Shaped[Array, "..."]:
    """Undo `scale_blocks`: drop the padding and restore the leaf's shape."""
    contracted = contracted_axes(path)
    if view.shape == shape or not contracted:
        return view
    first, count = contracted[0], len(contracted)
    inputs = math.prod(shape[first : first + count])
    flat = view.reshape(*shape[:first], -1, *shape[first + count :])
    return jax.lax.slice_in_dim(flat, 0, inputs, axis=first).reshape(shape)
