"""The largest of several linear losses, made as small as a budget of k weights allows.

Protecting the set x removes gain_l(x) = sum_{i in x} gain_l(i) from the loss of language l. Wanted:
the x of at most k weights with the smallest worst residual max_l (loss_l - gain_l(x)). Relaxed to
0 <= x_i <= 1 it is a linear programme; its dual,

    f(lambda) = sum_l lambda_l loss_l - (sum of the k largest sum_l lambda_l gain_l(i)),

is concave in one multiplier per language (lambda >= 0, sum 1). So the choice is a top k of one
weighted score, each evaluation is one pass over the gains, and every f(lambda) is a lower bound of
what any k weights can reach. f is maximised with a level bundle method: cuts from all passes, and
the next multipliers the nearest ones that the cuts do not yet call bad.

Source: Lemarechal, Nemirovskii and Nesterov, New variants of bundle methods, Mathematical
Programming 69 (1995); the projection is Lawson and Hanson's least distance programme (1974).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog, nnls

from jaxprotect.progress import progress

LEVEL = 0.4
"""How far towards the cuts' promise a step aims: 0 stays, 1 jumps to where they promise most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimax:
    """Where the level method ended.

    Args:
        multipliers: [L] the multipliers whose top k has the smallest worst residual.
        residuals: [L] the residuals of that top k.
        worst: the largest of them.
        bound: no set of the same size has a smaller worst residual.
        bound_multipliers: [L] the multipliers that prove it.
        passes: how often the gains were read.
    """

    multipliers: Float[np.ndarray, "L"]
    residuals: Float[np.ndarray, "L"]
    worst: float
    bound: float
    bound_multipliers: Float[np.ndarray, "L"]
    passes: int


Oracle = Callable[[Float[np.ndarray, "L"]], Float[np.ndarray, "L"]]


def solve_minimax(
    oracle: Oracle,
    start: Float[np.ndarray, "L"],
    *,
    tolerance: float = 0.005,
    max_passes: int = 40,
) -> Minimax:
    """Multipliers of the smallest worst residual.

    Args:
        oracle: multipliers -> residuals loss_l - gain_l(top k by those multipliers).
        start: first multipliers, at least 0 and not all 0; need not sum to 1.
        tolerance: stop when worst and bound differ by this share of the worst residual.
        max_passes: stop after so many calls of the oracle.

    Returns:
        The best choice and the best bound met.
    """
    best = bound = None
    cuts: list[np.ndarray] = []
    multipliers = start / start.sum()
    for _ in progress(range(max_passes), desc="languages weighed", unit="pass"):
        residuals = np.asarray(oracle(multipliers), np.float64)
        cuts.append(residuals)
        value = float(multipliers @ residuals)
        if best is None or residuals.max() < best[1].max():
            best = (multipliers, residuals)
        if bound is None or value > bound[1]:
            bound = (multipliers, value)
        promise = _promise(np.array(cuts))
        worst = float(best[1].max())
        converged = worst - bound[1] <= tolerance * abs(worst)
        # The bound cannot rise any more; what is left of the gap, whole weights cannot close.
        exhausted = promise - bound[1] <= 1e-3 * tolerance * abs(worst)
        if converged or exhausted:
            break
        level = bound[1] + LEVEL * (promise - bound[1])
        multipliers = _project(bound[0], np.array(cuts), level)
    assert best is not None
    assert bound is not None
    return Minimax(
        multipliers=best[0],
        residuals=best[1],
        worst=float(best[1].max()),
        bound=bound[1],
        bound_multipliers=bound[0],
        passes=len(cuts),
    )


def _promise(cuts: Float[np.ndarray, "M L"]) -> float:
    """The largest value of min_m cuts_m . lambda over the simplex."""
    count, languages = cuts.shape
    scale = np.abs(cuts).max() or 1.0
    solved = linprog(
        np.append(np.zeros(languages), -1.0),
        A_ub=np.hstack([-cuts / scale, np.ones((count, 1))]),
        b_ub=np.zeros(count),
        A_eq=np.append(np.ones(languages), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * languages + [(None, None)],
        method="highs",
    )
    return float(solved.x[-1]) * scale


def _project(
    centre: Float[np.ndarray, "L"], cuts: Float[np.ndarray, "M L"], level: float
) -> Float[np.ndarray, "L"]:
    """The point of the simplex nearest to `centre` where every cut is at least `level`.

    Least distance programming: min |y| s.t. G y >= h is a non-negative least squares problem.
    y are coordinates in the plane of sum 0, so that sums stay 1.
    """
    languages = centre.size
    if languages == 1:
        return centre
    scale = np.abs(cuts).max() or 1.0
    plane = np.linalg.svd(np.ones((1, languages)))[2][1:].T
    G = np.vstack([cuts / scale @ plane, plane])
    h = np.concatenate([(level - cuts @ centre) / scale, -centre])
    E = np.vstack([G.T, h])
    target = np.append(np.zeros(languages - 1), 1.0)
    u, _ = nnls(E, target, maxiter=50 * E.shape[1])
    rest = E @ u - target
    point = centre if rest[-1] == 0 else centre - plane @ (rest[:-1] / rest[-1])
    point = np.maximum(point, 0.0)
    return point / point.sum()
