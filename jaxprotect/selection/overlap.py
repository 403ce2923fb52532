"""Whose weights are the same, where they lie, and whether they are outliers: sets compared.

A set is a mask; only its eligible weights count. Leaves are looked at one by one.
Whether related languages share more is asked in `language_groups`.
"""

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.evaluation.damage import Row
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import COMPONENTS, Eligible, component, is_eligible, layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.blocks import scale_blocks
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.language_groups import (
    FAMILIES,
    SCRIPTS,
    Contrast,
    group_contrast,
    script,
)
from jaxprotect.trees import leaf_paths

__all__ = [
    "FAMILIES",
    "SCRIPTS",
    "Contrast",
    "chance_overlap",
    "group_contrast",
    "location",
    "outlier_share",
    "overlap_matrix",
    "script",
]


def overlap_matrix(
    masks: Mapping[str, Mask], params: Params, eligible: Eligible = "matrices"
) -> tuple[list[str], Float[np.ndarray, "L L"]]:
    """|A and B| / min(|A|, |B|) of every two sets: for equal counts, the share they share.

    Args:
        masks: language -> its set; each is read once.
        params: the parameter tree they belong to (only shapes are read).
        eligible: which leaves count.

    Returns:
        The languages in the order of `masks`, and the matrix; counts are exact at any size.

    Raises:
        InputError: no mask, one that protects nothing, or one that does not fit the params.
    """
    languages = list(masks)
    if not languages:
        raise InputError("`masks` is empty; at least one language is needed")
    packed = [
        {path: _pack(flags) for path, flags in _flags(f"masks[{name!r}]", mask, params, eligible)}
        for name, mask in masks.items()
    ]
    shared = np.zeros((len(languages), len(languages)), np.int64)
    for path in packed[0]:
        for i, first in enumerate(packed):
            for j, second in enumerate(packed[: i + 1]):
                both = np.bitwise_count(first[path] & second[path])
                shared[i, j] += both.sum(dtype=np.int64)
    shared = np.maximum(shared, shared.T)
    sizes = np.diag(shared)
    if not sizes.all():
        empty = languages[int(np.argmin(sizes))]
        raise InputError(f"`masks` of {empty!r} protects nothing; a share of it is undefined")
    return languages, shared / np.minimum.outer(sizes, sizes)


def chance_overlap(fraction: float) -> float:
    """Expected share that two random sets of a fraction of the weights share: the fraction.

    Raises:
        InputError: a fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"`fraction` is {fraction}; allowed is 0 to 1")
    return fraction


def location(mask: Mask, params: Params, eligible: Eligible = "matrices") -> list[Row]:
    """Where a set lies: each part's share of it, and whether that is more than the part's size.

    lift = share of the set / share of the eligible weights; 1 is what a random set has.

    Args:
        mask: the set.
        params: the parameter tree it belongs to (only shapes are read).
        eligible: which leaves count.

    Returns:
        One row per layer (None outside the blocks) and component, in the order of the forward
        pass: `layer`, `component`, `protected`, `eligible`, `share`, `lift`.

    Raises:
        InputError: a mask that protects nothing, or does not fit the params.
    """
    counts: dict[tuple[int | None, str], np.ndarray] = {}
    for path, flags in _flags("mask", mask, params, eligible):
        stacked = layer_axis(path) is not None
        for layer, part in enumerate(flags if stacked else [flags]):
            where = (layer if stacked else None, component(path))
            found = np.array([np.count_nonzero(part), part.size], np.int64)
            counts[where] = counts.get(where, 0) + found
    protected, total = np.sum(list(counts.values()), axis=0)
    if not protected:
        raise InputError("`mask` protects nothing; it lies nowhere")
    rows: list[Row] = []
    for layer, name in sorted(counts, key=_order):
        inside, size = map(int, counts[layer, name])
        share = inside / int(protected)
        rows.append(
            {
                "layer": layer,
                "component": name,
                "protected": inside,
                "eligible": size,
                "share": share,
                "lift": share / (size / int(total)),
            }
        )
    return rows


def outlier_share(
    mask: Mask, params: Params, spec: QuantSpec, deviations: float = 3.0
) -> tuple[float, float]:
    """How many weights of a set are outliers of their scale block: |w - mean| > deviations * sd.

    Args:
        mask: the set.
        params: the parameter tree it belongs to.
        spec: the quantizer, which says what weights share a scale and which are eligible.
        deviations: how many standard deviations are far.

    Returns:
        The share among the set's weights, and among all eligible weights: chance.

    Raises:
        InputError: a mask that protects nothing or does not fit, or `deviations` not above 0.
    """
    if not deviations > 0:
        raise InputError(f"`deviations` is {deviations}; it must be above 0")
    weights = leaf_paths(params)
    far_inside = inside = far_all = size = 0
    for path, flags in _flags("mask", mask, params, spec.eligible):
        view, axes = scale_blocks(jnp.asarray(weights[path]), path, spec)
        real, _ = scale_blocks(jnp.ones(flags.shape, bool), path, spec)  # groups are padded
        chosen, _ = scale_blocks(jnp.asarray(flags), path, spec)
        far = _far(on_host(view).astype(np.float32, copy=False), on_host(real), axes, deviations)
        far_inside += np.count_nonzero(far & on_host(chosen))
        far_all += np.count_nonzero(far)
        inside += np.count_nonzero(flags)
        size += flags.size
    if not inside:
        raise InputError("`mask` protects nothing; a share of it is undefined")
    return float(far_inside / inside), float(far_all / size)


def _flags(
    name: str, mask: Mask, params: Params, eligible: Eligible
) -> Iterator[tuple[str, np.ndarray]]:
    """Each eligible leaf's flags, as large as the leaf (a view where they are broadcast)."""
    leaves, flags = leaf_paths(params), leaf_paths(mask)
    if leaves.keys() != flags.keys():
        odd = sorted(leaves.keys() ^ flags.keys())
        raise InputError(f"`{name}` and the params differ in the leaves {odd}")
    for path, weights in leaves.items():
        if not is_eligible(path, eligible):
            continue
        found = on_host(flags[path]).astype(bool, copy=False)
        try:
            whole = np.broadcast_to(found, weights.shape)
        except ValueError:
            raise InputError(
                f"`{name}` at {path} has shape {found.shape}; the params have {weights.shape}"
            ) from None
        yield path, whole


def _pack(flags: np.ndarray) -> np.ndarray:
    """Eight flags a byte, eight bytes a word: as many are counted at once."""
    bits = np.packbits(flags.reshape(-1))
    return np.pad(bits, (0, -bits.size % 8)).view(np.uint64)


def _far(
    view: np.ndarray, real: np.ndarray, axes: tuple[int, ...], deviations: float
) -> np.ndarray:
    """Weights far from their block's mean; sums in float64, since a block may be a whole leaf."""
    mean = view.mean(axis=axes, keepdims=True, dtype=np.float64, where=real)
    away = np.abs(view - mean.astype(np.float32))
    square = np.square(away).mean(axis=axes, keepdims=True, dtype=np.float64, where=real)
    return real & (away > (deviations * np.sqrt(square)).astype(np.float32))


def _order(where: tuple[int | None, str]) -> tuple[float, int]:
    """Embeddings, layer after layer, the rest."""
    layer, name = where
    outside = -1.0 if name.endswith("_embedding") else np.inf
    return outside if layer is None else layer, COMPONENTS.index(name)
