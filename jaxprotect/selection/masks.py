"""Which weights stay in high precision: masks over parameter trees, and their algebra.

A mask has the params' structure; its leaves are bool and broadcastable, so that a layer, head or
component mask costs a few bytes. `True` means protected. Only eligible weights count.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError
from jaxprotect.models.axes import (
    COMPONENTS,
    Eligible,
    component,
    head_axis,
    is_eligible,
    layer_axis,
)
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.trees import Cut, above_cut, find_cut, leaf_paths, map_leaves

Per = Literal["model", "tensor"]
Ties = Literal["position", "all"]


def none(params: Params) -> Mask:
    """Protect nothing."""
    return map_leaves(lambda path, leaf: np.zeros((), bool), params)


def everything(params: Params) -> Mask:
    """Protect every weight."""
    return map_leaves(lambda path, leaf: np.ones((), bool), params)


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

    Args:
        params: parameter tree.
        chosen: layer number -> head numbers, both from 0.

    Returns:
        The mask; [layers, heads] flags broadcast over the rest.

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
        shape[0], shape[axis] = depth, count
        return flags.reshape(shape)

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
            raise InputError(f"`chosen` has component {name!r}; allowed are {sorted(COMPONENTS)}")
        if name not in present:
            raise InputError(f"`chosen` has component {name!r}; this model has {sorted(present)}")
    if not chosen:
        raise InputError("`chosen` names no component")
    return map_leaves(lambda path, leaf: np.asarray(component(path) in chosen), params)


def by_score(
    scores: dict,
    *,
    count: int | None = None,
    fraction: float | None = None,
    eligible: Eligible = "matrices",
    per: Per = "model",
    ties: Ties = "position",
) -> Mask:
    """Protect the highest-scored eligible weights: exactly k of them, k = floor(fraction * N).

    Args:
        scores: tree like the params; higher = protect first.
        count: k, the number of weights; give this or `fraction`.
        fraction: share of the eligible weights, 0 to 1.
        eligible: which leaves take part.
        per: one cut for the whole model, or one per checkpoint tensor (`fraction` only).
        ties: weights equal to the cut are taken by position until there are k, or all of them
            (the seed protocol, which may protect more than k).

    Returns:
        The mask.

    Raises:
        InputError: `count` or `fraction` out of range, both or neither given, or NaN scores.
    """
    ranked = _eligible_leaves(scores, eligible)
    if per == "tensor":
        if fraction is None:
            raise InputError("`count` cannot be split per tensor; give `fraction`")
        return _per_tensor(scores, ranked, fraction, ties)
    total = sum(leaf.size for leaf in ranked.values())
    cut = find_cut(ranked, target_count(total, count, fraction), ties=ties)
    return _mask_above(scores, cut)


@jax.jit
def _mask_above(scores: dict, cut: Cut) -> Mask:
    """The mask of all weights above a cut; compiled once for every cut of a sweep."""
    ranked = {path: leaf for path, leaf in leaf_paths(scores).items() if path in cut.ties}
    masks = above_cut(ranked, cut)
    return map_leaves(lambda path, leaf: masks.get(path, jnp.zeros((), bool)), scores)


def by_magnitude(
    params: Params,
    *,
    count: int | None = None,
    fraction: float | None = None,
    eligible: Eligible = "matrices",
    per: Per = "model",
    ties: Ties = "position",
) -> Mask:
    """Protect the weights of largest |w|; arguments as in `by_score`."""
    return by_score(
        jax.tree.map(jnp.abs, params),
        count=count,
        fraction=fraction,
        eligible=eligible,
        per=per,
        ties=ties,
    )


def random(
    params: Params,
    *,
    count: int | None = None,
    fraction: float | None = None,
    eligible: Eligible = "matrices",
    seed: int = 0,
) -> Mask:
    """Protect exactly k eligible weights drawn uniformly: the fair control of every criterion."""
    return by_score(random_scores(params, seed), count=count, fraction=fraction, eligible=eligible)


def random_scores(params: Params, seed: int) -> dict:
    """Uniform scores, a function of the seed and the leaf's path order alone."""
    keys = iter(jax.random.split(jax.random.key(seed), len(leaf_paths(params))))
    return map_leaves(lambda path, leaf: jax.random.uniform(next(keys), leaf.shape), params)


def union(*masks: Mask) -> Mask:
    """Protected in any of the masks."""
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.logical_or, leaves), *masks)


def intersection(*masks: Mask) -> Mask:
    """Protected in all of the masks."""
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.logical_and, leaves), *masks)


def complement(mask: Mask) -> Mask:
    """Protected exactly where `mask` is not."""
    return jax.tree.map(jnp.logical_not, mask)


def count(mask: Mask, params: Params, eligible: Eligible = "matrices") -> int:
    """How many eligible weights a mask protects, exact at any size.

    Args:
        mask: the mask.
        params: the parameter tree it belongs to (only shapes are read).
        eligible: which leaves count.

    Returns:
        The count, a Python int.
    """
    flags = leaf_paths(mask)

    def protected(path: str, shape: tuple[int, ...]) -> int:
        flag = flags[path]
        if jnp.size(flag) == 0:
            return 0
        repeats = math.prod(shape) // jnp.size(flag)
        rows = jnp.shape(flag)[0] if jnp.ndim(flag) else 1  # int32 counts, one per leading row
        counts = jnp.sum(jnp.reshape(flag, (rows, -1)), axis=1)
        return int(np.asarray(counts).astype(np.int64).sum()) * repeats

    leaves = leaf_paths(params)
    return sum(protected(p, w.shape) for p, w in leaves.items() if is_eligible(p, eligible))


def eligible_count(params: Params, eligible: Eligible = "matrices") -> int:
    """N, the number of weights that fractions are of."""
    return sum(math.prod(leaf.shape) for leaf in _eligible_leaves(params, eligible).values())


def target_count(total: int, count: int | None, fraction: float | None) -> int:
    """k, from a count or as floor(fraction * total).

    Args:
        total: N, the number of eligible weights.
        count: k itself; give this or `fraction`.
        fraction: 0 to 1.

    Returns:
        k.

    Raises:
        InputError: both or neither given, or out of range.
    """
    if (count is None) == (fraction is None):
        raise InputError(f"give one of `count` and `fraction`, not {count!r} and {fraction!r}")
    if fraction is not None:
        if not 0 <= fraction <= 1:
            raise InputError(f"`fraction` is {fraction}; allowed is 0 to 1")
        return math.floor(fraction * total)
    assert count is not None
    if not 0 <= count <= total:
        raise InputError(f"`count` is {count}; the model has {total} eligible weights")
    return count


def _per_tensor(scores: dict, ranked: dict, fraction: float, ties: Ties) -> Mask:
    """One cut per checkpoint tensor: a layer's slice of a stacked leaf is a tensor of its own."""

    def leaf(path: str, score: Array) -> Array:
        if path not in ranked:
            return jnp.zeros((), bool)
        slices = [score] if layer_axis(path) is None else list(score)
        chosen = []
        for piece in slices:
            cut = find_cut({path: piece}, target_count(piece.size, None, fraction), ties=ties)
            chosen.append(above_cut({path: piece}, cut)[path])
        return chosen[0] if layer_axis(path) is None else jnp.stack(chosen)

    return map_leaves(leaf, scores)


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


def _eligible_leaves(tree: dict, eligible: Eligible) -> dict[str, Array]:
    leaves = leaf_paths(tree).items()
    return {path: leaf for path, leaf in leaves if is_eligible(path, eligible)}
