"""Masks of exactly k weights: those of the highest scores, under whatever criterion.

A criterion is a tree of scores shaped like the params. k, or the fraction it is of, counts eligible
weights alone.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxprotect.cuts import Cut, above_cut, find_cut
from jaxprotect.errors import InputError
from jaxprotect.models.axes import Eligible, is_eligible, layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.packed_params import check_dense
from jaxprotect.quantization.quantize import Mask
from jaxprotect.trees import leaf_paths, map_leaves

Per = Literal["model", "tensor"]
Ties = Literal["position", "all"]


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
    check_dense("params", params)
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


def _eligible_leaves(tree: dict, eligible: Eligible) -> dict[str, Array]:
    leaves = leaf_paths(tree).items()
    return {path: leaf for path, leaf in leaves if is_eligible(path, eligible)}
