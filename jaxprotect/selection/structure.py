"""Masks of whole parts of a model: layers, attention heads, components.

The flags broadcast over the rest of each leaf, so that such a mask costs a few bytes.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.axes import COMPONENTS, component, head_axis, layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.trees import leaf_paths, map_leaves


def layers(params: Params, chosen: Iterable[int]) -> Mask:
    """Protect whole blocks: attention, MLP and norms of the chosen layers.

    Args:
        params: parameter tree.
        chosen: layer numbers, from 0.

    Returns:
        The mask; a few bytes per leaf.

    Raises:
        InputError: no layer chosen, or a layer that the model does not have.
    """
    chosen = sorted(set(chosen))
    depth = _depth(params)
    if not chosen:
        raise InputError("`chosen` names no layer")
    if chosen[0] < 0 or chosen[-1] >= depth:
        raise InputError(f"`chosen` has layers {chosen}; the model has 0 to {depth - 1}")
    flags = np.isin(np.arange(depth), chosen)

    def leaf(path: str, weights: Array) -> np.ndarray:
        return _along(flags, layer_axis(path), weights.ndim)

    return map_leaves(leaf, params)


def heads(params: Params, chosen: Mapping[int, Iterable[int]]) -> Mask:
    """Protect single attention heads: their slices of q, k, v and of the output projection.

    Where several heads share keys and values, those are protected with any of them: a head whose
    keys are quantized would not be protected. So the masks of two heads united are the mask of
    both, and the heads of one group protect their keys and values once.

    Args:
        params: parameter tree.
        chosen: layer number -> head numbers, both from 0.

    Returns:
        The mask; [layers, heads] flags (k, v: [layers, heads of keys]) broadcast over the rest.

    Raises:
        InputError: no head chosen, or a layer or head that the model does not have.
    """
    depth, count = _depth(params), _head_count(params)
    flags = np.zeros((depth, count), bool)
    for layer, of_layer in chosen.items():
        if not 0 <= layer < depth:
            raise InputError(f"`chosen` has layer {layer}; the model has 0 to {depth - 1}")
        for head in of_layer:
            if not 0 <= head < count:
                raise InputError(f"`chosen` has head {head}; the model has 0 to {count - 1}")
            flags[layer, head] = True
    if not flags.any():
        raise InputError("`chosen` names no head")

    def leaf(path: str, weights: Array) -> np.ndarray:
        axis = head_axis(path)
        if axis is None:
            return np.zeros((), bool)
        shape = [1] * weights.ndim
        shape[0], shape[axis] = depth, weights.shape[axis]
        of_axis = np.any(flags.reshape(depth, weights.shape[axis], -1), axis=-1)
        return np.reshape(of_axis, shape)

    return map_leaves(leaf, params)


def components(params: Params, chosen: Iterable[str]) -> Mask:
    """Protect whole components.

    Args:
        params: parameter tree.
        chosen: of `attention`, `mlp`, `token_embedding`, `position_embedding`, `norms`, `head`.

    Returns:
        The mask; one bool per leaf.

    Raises:
        InputError: an unknown component, or one that this model does not have.
    """
    chosen = set(chosen)
    present = {component(path) for path in leaf_paths(params)}
    for name in sorted(chosen):
        if name not in COMPONENTS:
            raise unknown_name("chosen", name, sorted(COMPONENTS), verb="has component")
        if name not in present:
            raise InputError(f"`chosen` has component {name!r}; this model has {sorted(present)}")
    if not chosen:
        raise InputError("`chosen` names no component")
    return map_leaves(lambda path, leaf: np.asarray(component(path) in chosen), params)


def _along(flags: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """Flags placed on one axis of a leaf, broadcast over the others; False without the axis."""
    if axis is None:
        return np.zeros((), bool)
    shape = [1] * rank
    shape[axis] = flags.size
    return flags.reshape(shape)


def _depth(params: Params) -> int:
    return leaf_paths(params)["blocks/norm_attention/scale"].shape[0]


def _head_count(params: Params) -> int:
    path = "blocks/attention/out/kernel"
    axis = head_axis(path)
    assert axis is not None
    return leaf_paths(params)[path].shape[axis]
