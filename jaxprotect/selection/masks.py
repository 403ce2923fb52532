"""Which weights stay in high precision: masks over parameter trees, and their algebra.

A mask has the params' structure; its leaves are bool and broadcastable, so that a layer, head or
component mask costs a few bytes. `True` means protected. Only eligible weights count.

All that makes a mask is found here: by part of the model (`structure`), by score (`topk`).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import Eligible, is_eligible
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.selection.stored_cuts import magnitude_cut
from jaxprotect.selection.structure import components, heads, layers
from jaxprotect.selection.topk import (
    Per,
    Ties,
    by_magnitude,
    by_score,
    eligible_count,
    random,
    random_scores,
    target_count,
)
from jaxprotect.trees import leaf_paths, map_leaves

__all__ = [
    "Mask",
    "Per",
    "Ties",
    "by_magnitude",
    "by_score",
    "complement",
    "components",
    "count",
    "eligible_count",
    "everything",
    "heads",
    "intersection",
    "layers",
    "magnitude_cut",
    "none",
    "random",
    "random_scores",
    "target_count",
    "union",
]


def none(params: Params) -> Mask:
    """Protect nothing."""
    return map_leaves(lambda path, leaf: np.zeros((), bool), params)


def everything(params: Params) -> Mask:
    """Protect every weight."""
    return map_leaves(lambda path, leaf: np.ones((), bool), params)


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
        return int(on_host(counts).astype(np.int64).sum()) * repeats

    leaves = leaf_paths(params)
    return sum(protected(p, w.shape) for p, w in leaves.items() if is_eligible(p, eligible))
