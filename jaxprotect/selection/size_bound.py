"""How small a set that meets the targets can be at all, within the surrogate."""

import numpy as np
from jaxtyping import Float

from jaxprotect.counting import count_to_reach
from jaxprotect.selection.top_gains import Gains, minimax_choice, weighted_scores


def size_lower_bound(
    gains: Gains,
    needs: Float[np.ndarray, "M"],
    *,
    weights: Float[np.ndarray, "M L"] | None = None,
    start: int,
    rounds: int = 4,
    max_passes: int = 20,
) -> tuple[float, Float[np.ndarray, "M"]]:
    """No set of fewer weights removes what every demand needs.

    For any multipliers mu >= 0, a set x with (weights @ gain(x))_m >= need_m for all m has
    sum_{i in x} (mu @ weights) @ gain(i) >= mu @ needs, and no k weights reach more than the k
    largest: the smallest k (with a fraction of the last weight) whose top k reaches it is a lower
    bound of |x|. The best mu is approached by solving the minimax problem at the size that the
    last mu proved: Newton's method on the convex curve of worst residual over size.

    Args:
        gains: what each weight removes from each language.
        needs: [M] what each demand must lose of its damage.
        weights: how much each language counts in each demand; one demand per language if not
            given.
        start: first size, such as that of a set that was found.
        rounds: most Newton steps.
        max_passes: passes over the gains per step.

    Returns:
        The bound, and the multipliers that prove it; infinite if not even all weights are enough.
    """
    weights_MxL = np.eye(len(needs)) if weights is None else weights
    best, proof = 0.0, np.full(len(needs), 1 / len(needs))
    if (needs <= 0).all():
        return best, proof
    total = sum(leaf[0].size for leaf in gains.values())
    size = max(1, min(start, total))
    multipliers = None
    for _ in range(rounds):
        solved, _ = minimax_choice(
            gains,
            needs,
            weights=weights_MxL,
            count=size,
            start=multipliers,
            max_passes=max_passes,
        )
        for candidate in (solved.bound_multipliers, solved.multipliers):
            bound = _size_of(gains, needs, candidate, weights_MxL)
            if bound > best:
                best, proof = bound, candidate
        multipliers = solved.bound_multipliers
        if not np.isfinite(best) or round(best) == size:
            break
        size = max(1, min(total, round(best)))
    return best, proof


def _size_of(
    gains: Gains, needs: np.ndarray, multipliers: np.ndarray, weights_MxL: np.ndarray
) -> float:
    """Smallest k, with a fraction of the last weight, whose k largest scores reach the need."""
    of_language = multipliers @ weights_MxL
    # Scores are sums of L products in float32: without the slack, rounding could make a bound of
    # k weights k + 1e-7, and so one weight more for whoever rounds it up.
    slack = (len(of_language) + 2) * 2.0**-24
    need = float(multipliers @ needs) * (1 - slack)
    return count_to_reach(weighted_scores(gains, of_language), need)
