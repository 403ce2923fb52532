"""Sets of equal cost: as many weights as a byte budget holds, and the bytes that a goal takes."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks


def fill_bytes(
    mask_of: Callable[[int], Mask],
    budget: int,
    params: Params,
    spec: QuantSpec,
    *,
    start: int,
    most: int,
    tolerance: float = 0.005,
    tries: int = 12,
    bits: Bits | None = None,
    cost_of: Callable[[Mask], int] | None = None,
) -> Mask:
    """The largest set of a ranking whose cost is at most a budget.

    Weights cost by where they lie: scattered ones need an index each, whole columns hardly any. So
    equal counts are not equal costs. The overhead grows with the count, nearly in proportion.

    Args:
        mask_of: k -> the top k of the ranking.
        budget: bytes that protection may add to the quantized model, or that `cost_of` allows.
        params: the parameter tree (only shapes are read).
        spec: the quantizer.
        start: first k to try.
        most: largest k.
        tolerance: stop at a set that leaves at most this share of the budget unused.
        tries: most sizes to look at.
        bits: mixed precision; its bytes without protection are not part of the budget.
        cost_of: a mask's cost; what it adds to `protected_size` if not given.

    Returns:
        The mask of the largest k met that fits; of 0 weights if none did.

    Raises:
        InputError: a budget below 0, or a start out of range.
    """
    if budget < 0:
        raise InputError(f"`budget` is {budget} bytes; it must be at least 0")
    if not 0 <= start <= most:
        raise InputError(f"`start` is {start}; allowed are 0 to {most}")

    plain = protected_size(params, masks.none(params), spec, bits).total

    def added(mask: Mask) -> int:
        return protected_size(params, mask, spec, bits).total - plain

    price = added if cost_of is None else cost_of
    fits, best, too_large = 0, mask_of(0), most + 1
    count = start
    for _ in range(tries):
        mask = mask_of(count)
        cost = price(mask)
        if cost <= budget:
            fits, best = count, mask
            if cost >= (1 - tolerance) * budget:
                break
        else:
            too_large = count
        if too_large - fits <= 1:
            break
        aim = math.floor(count * (1 - tolerance / 2) * budget / cost) if cost > 0 else 2 * count + 1
        inside = fits < aim < too_large
        count = aim if inside else min((fits + too_large) // 2, 2 * max(fits, start, 1))
        count = min(max(count, fits + 1), too_large - 1)
    return best


def bytes_to_reach(
    overheads: Sequence[float], damages: Sequence[float], goal: float
) -> float | None:
    """Bytes from which on a curve of damage over bytes stays at or below a goal.

    Between two measured sizes the damage is taken as linear in the logarithm of the bytes (in the
    bytes themselves from 0). A curve may rise again: what counts is the last time it falls to the
    goal.

    Args:
        overheads: bytes, ascending.
        damages: the damage at each.
        goal: the damage wanted.

    Returns:
        The bytes; None where the largest size does not reach the goal.

    >>> bytes_to_reach([0, 100, 400], [0.3, 0.2, 0.1], 0.15)
    200.0
    """
    x, y = np.asarray(overheads, float), np.asarray(damages, float)
    if x.size == 0 or x.size != y.size or (np.diff(x) <= 0).any() or x[0] < 0:
        raise InputError(f"`overheads` are {list(overheads)}; as many as damages, and ascending")
    above = np.flatnonzero(y > goal)
    if not above.size:
        return float(x[0])
    last = int(above[-1])
    if last == x.size - 1:
        return None
    share = float((y[last] - goal) / (y[last] - y[last + 1]))
    if x[last] == 0:
        return share * float(x[last + 1])
    return float(x[last] * (x[last + 1] / x[last]) ** share)
