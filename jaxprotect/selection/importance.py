"""How much each weight's rounding error counts: by its inputs or its gradients, by language."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.axes import AXES, contracted_axes, layer_axis
from jaxprotect.selection.statistics import Statistics
from jaxprotect.trees import leaf_paths

KINDS = ("inputs", "fisher")
"""What importance is made of."""


def importance_of(statistics: Statistics, kind: str) -> dict[str, Float[Array, "..."]]:
    """What a unit of squared error costs at each weight, by one set of statistics.

    `inputs`: sum of x_j^2 over all positions, of the input j that the weight multiplies. A tied
    embedding table is weighed as the head: by the hidden states that it multiplies. Tables that
    are only looked up have no inputs and are not named: all their weights count alike.
    `fisher`: the summed squared gradients, of every leaf.

    Args:
        statistics: of some sentences.
        kind: `inputs` or `fisher`.

    Returns:
        Leaf path -> importance, of the leaf's rank; size 1 along outputs for `inputs`.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    if kind == "fisher":
        squares = leaf_paths(statistics.square)
        return {path: leaf for path, leaf in squares.items() if contracted_axes(path)}
    return {path: _by_input(of.square, path) for path, of in statistics.inputs.items()}


def _by_input(square: Array, path: str) -> Array:
    inner = (*contracted_axes(path), layer_axis(path))
    return jnp.expand_dims(square, [axis for axis in range(len(AXES[path])) if axis not in inner])


def language_importance(
    load: Callable[[str], Statistics],
    multipliers: Mapping[str, float],
    nats: Mapping[str, float],
    kind: str,
) -> dict[str, Float[Array, "..."]]:
    """sum_l multiplier_l / nats_l * importance_l: what an error costs all languages.

    Divided by their original nats, damages are relative, as in `language_guided`; equal
    multipliers make it the mean relative damage, to second order (`fisher`).

    Args:
        load: language -> its statistics, such as a mapping's `__getitem__`; one in memory at a
            time.
        multipliers: language -> how much its damage counts, at least 0 and not all 0; languages
            of 0 are not read.
        nats: language -> the original model's nats over the statistics' sentences.
        kind: see `importance_of`.

    Returns:
        Leaf path -> importance.

    Raises:
        InputError: multipliers that are negative, not finite or all 0, or nats that are missing
            or not above 0.
    """
    total: dict[str, Array] = {}
    for language, share in relative_weights(multipliers, nats).items():
        for path, of_leaf in importance_of(load(language), kind).items():
            part = share * of_leaf
            total[path] = total[path] + part if path in total else part
    return total


def relative_weights(
    multipliers: Mapping[str, float], nats: Mapping[str, float]
) -> dict[str, float]:
    """multiplier_l / nats_l of the languages that count, checked.

    Args:
        multipliers: as in `language_importance`.
        nats: as in `language_importance`.

    Returns:
        Language -> weight, above 0.

    Raises:
        InputError: as in `language_importance`.
    """
    for language, multiplier in multipliers.items():
        if not 0 <= multiplier < float("inf"):
            raise InputError(
                f"`multipliers` has {multiplier} for {language}; allowed are finite numbers, "
                "at least 0"
            )
    counted = {language: float(m) for language, m in multipliers.items() if m > 0}
    if not counted:
        raise InputError("`multipliers` are all 0; at least one language must count")
    for language in counted:
        if not nats.get(language, 0.0) > 0:
            raise InputError(f"`nats` has {nats.get(language)} for {language}; it must be above 0")
    return {language: multiplier / nats[language] for language, multiplier in counted.items()}
