"""The k weights of the largest gains, each language's gains counted by a multiplier."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float

from jaxprotect.counting import order_keys
from jaxprotect.cuts import find_cut
from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.selection.minimax import Minimax, solve_minimax

Gains = Mapping[str, Float[np.ndarray, "L ..."]]
"""Leaf path -> what protecting each weight removes from each language's loss."""


def minimax_choice(
    gains: Gains,
    losses: Float[np.ndarray, "M"],
    *,
    count: int,
    weights: Float[np.ndarray, "M L"] | None = None,
    start: Float[np.ndarray, "M"] | None = None,
    tolerance: float = 0.005,
    max_passes: int = 20,
) -> tuple[Minimax, dict[str, np.ndarray]]:
    """Multipliers, and the top `count` weights by the score that they weigh.

    Made smallest is max_m (losses - weights @ gain)_m.

    Args:
        gains: what each weight removes from each language, in the units of `losses`.
        losses: by how much each demand is missed when nothing is protected.
        count: k.
        weights: how much each language counts in each demand; one demand per language if not
            given.
        start: first multipliers of the demands; all equal by default.
        tolerance: see `solve_minimax`.
        max_passes: see `solve_minimax`.

    Returns:
        The solution, and leaf path -> bool array with `count` Trues in all.

    Raises:
        InputError: gains that are not finite or negative, or `count` out of range.
    """
    for path, leaf in gains.items():
        lowest = float(leaf.min(initial=0.0))
        if not np.isfinite(leaf.max(initial=0.0)) or not lowest >= 0:
            raise InputError(f"`gains` at {path} are not all finite and at least 0")
    weights_MxL = np.eye(len(losses)) if weights is None else weights

    def oracle(multipliers: np.ndarray) -> np.ndarray:
        chosen = top_by_multipliers(gains, multipliers @ weights_MxL, count)
        return losses - weights_MxL @ removed(gains, chosen)

    first = np.ones(len(losses)) if start is None else start
    solved = solve_minimax(oracle, first, tolerance=tolerance, max_passes=max_passes)
    return solved, top_by_multipliers(gains, solved.multipliers @ weights_MxL, count)


def weighted_scores(
    gains: Gains, multipliers: Float[np.ndarray, "L"]
) -> dict[str, Float[np.ndarray, "..."]]:
    """sum_l multiplier_l gain_l of every weight, by leaf, in float32."""
    weights = multipliers.astype(np.float32)
    return {
        path: (weights @ leaf.reshape(len(weights), -1)).reshape(leaf.shape[1:])
        for path, leaf in gains.items()
    }


def top_by_multipliers(
    gains: Gains, multipliers: Float[np.ndarray, "L"], count: int
) -> dict[str, np.ndarray]:
    """The `count` weights of the largest sum_l multiplier_l gain_l, ties by position.

    Args:
        gains: what each weight removes.
        multipliers: one weight per language.
        count: k.

    Returns:
        Leaf path -> bool array; `count` Trues in all.
    """
    scores = weighted_scores(gains, multipliers)
    cut = find_cut(scores, count)
    return {path: _above(score, cut.key, int(cut.ties[path])) for path, score in scores.items()}


def _above(score: np.ndarray, key: jax.Array, ties: int) -> np.ndarray:
    keys = order_keys(score)
    chosen = keys > np.asarray(key)
    if ties:
        equal = np.flatnonzero(keys.reshape(-1) == np.asarray(key))[:ties]
        chosen.reshape(-1)[equal] = True
    return chosen


def removed(gains: Gains, flags: Mapping[str, jax.Array | np.ndarray]) -> Float[np.ndarray, "L"]:
    """What a set removes from each language, summed in float64.

    Args:
        gains: what each weight removes.
        flags: leaf path -> True where a weight is in the set; broadcastable to the leaf.

    Returns:
        The sums.
    """
    total = np.zeros(len(next(iter(gains.values()))))
    for path, leaf in gains.items():
        positions = np.flatnonzero(np.broadcast_to(on_host(flags[path]), leaf.shape[1:]))
        total += leaf.reshape(len(total), -1)[:, positions].sum(axis=1, dtype=np.float64)
    return total
