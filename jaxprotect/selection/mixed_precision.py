"""Bits by unit within a budget of bytes, so that the worst-off language is best off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from jaxprotect.errors import InputError
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import KEPT, Bits
from jaxprotect.quantization.precision import bits_of_units
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.size import ModelSize, protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.knapsack import Knapsack, allocate
from jaxprotect.selection.targets import Demands, as_small_as_can_be
from jaxprotect.selection.unit_damages import TRUSTED, UnitDamages

MeasureBits = Callable[[Mask, Bits], Mapping[str, float]]
"""Protected weights and bits -> every language's damage, relative to its original nats."""

REFITS = 4
"""How often a choice is made again for the bytes that it leaves unused or takes too many."""

PASSES = 30
"""Multipliers tried at first; a third of them from multipliers of a similar problem."""

SPARE = 2e-4
"""Share of the budget that may be left without another choice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocation:
    """Bits of every output channel, and what is known about them.

    Args:
        bits: see `Bits`.
        mask: weights that are protected besides.
        size: bytes of the whole model, as `protected_size` counts them.
        multipliers: language -> what its damages count in the bound.
        predicted: language -> the damage that the surrogate expects, relative.
        bound: no bits by the same units, beside the same protected weights, in as many bytes have
            a smaller worst excess in the surrogate.
        measured: language -> measured damage, relative; empty if it was not measured.
        rounds: the worst measured excess of every round, in order.
    """

    bits: Bits
    mask: Mask
    size: int
    multipliers: dict[str, float]
    predicted: dict[str, float]
    bound: float
    measured: dict[str, float] = field(default_factory=dict)
    rounds: tuple[float, ...] = ()


def allocate_bits(
    params: Params,
    table: UnitDamages,
    spec: QuantSpec,
    *,
    budget: int,
    demands: Demands | None = None,
    mask: Mask | None = None,
    measure: MeasureBits | None = None,
    rounds: int = 3,
) -> Allocation:
    """Give every unit a width so that the worst excess over what is demanded is smallest.

    min over b of max_m weights_m @ (sum_u damages[u, b_u]) - limit_m, true bytes at most `budget`.

    Without demands, that is the largest relative damage of any language. With `measure`, each round
    measures its candidate, multiplies each language's damages by measured over predicted, and
    chooses again; the candidate of the smallest measured excess is returned.

    Args:
        params: the parameter tree (only shapes are read).
        table: damages and bytes of all units at all widths.
        spec: the quantizer.
        budget: bytes of the whole model.
        demands: what damages are held against, of the same languages.
        mask: weights that are protected whatever their width, whose bytes count; none by default.
        measure: relative damages, on sentences of the tune split; no correction without.
        rounds: candidates to make with `measure`.

    Returns:
        The best candidate; its size is at most `budget`, always.

    Raises:
        InputError: a budget below the smallest file, languages that differ, or no round.

    Source: as minimax.py: the dual over languages is this project's.
    """
    languages = table.languages
    demands = as_small_as_can_be(languages) if demands is None else demands
    if set(demands.languages) != set(languages):
        odd = sorted(set(demands.languages) ^ set(languages))
        raise InputError(f"`demands` and `table` differ in the languages {odd}")
    if rounds < 1:
        raise InputError(f"`rounds` is {rounds}; it must be at least 1")
    weights_MxL = demands.weights[:, [demands.languages.index(name) for name in languages]]
    protected = masks.none(params) if mask is None else mask
    factors_L, offsets_L = np.ones(len(languages)), np.zeros(len(languages))
    multipliers_M: np.ndarray | None = None
    best: Allocation | None = None
    history: list[float] = []
    for _ in range(rounds if measure else 1):
        solved, bits, size = _fitting(
            params,
            table,
            spec,
            budget,
            (table.damages * factors_L) @ weights_MxL.T,
            weights_MxL @ offsets_L - demands.limits,
            protected,
            multipliers_M,
        )
        multipliers_M = solved.multipliers
        plain_L = _chosen(table, solved.choice)
        predicted_L = plain_L * factors_L + offsets_L
        measured = None if measure is None else dict(measure(protected, bits))
        made = Allocation(
            bits=bits,
            mask=protected,
            size=size,
            multipliers=_named(languages, solved.multipliers @ weights_MxL),
            predicted=_named(languages, predicted_L),
            bound=solved.bound,
            measured=measured or {},
        )
        if measured is not None:
            if set(measured) != set(languages):
                odd = sorted(set(measured) ^ set(languages))
                raise InputError(f"`measure` and `table` differ in the languages {odd}")
            history.append(float(demands.excess(measured).max()))
            measured_L = np.array([measured[name] for name in languages])
            factors_L = np.clip(measured_L / np.maximum(plain_L, 1e-12), *TRUSTED)
            offsets_L = measured_L - factors_L * plain_L
        if best is None or history[-1] < min(history[:-1]):
            best = made
    assert best is not None
    return replace(best, rounds=tuple(history))


def _chosen(table: UnitDamages, choice: Int[np.ndarray, "U"]) -> Float[np.ndarray, "L"]:
    return table.damages[np.arange(len(choice)), choice].sum(axis=0)


def _named(languages: tuple[str, ...], values: np.ndarray) -> dict[str, float]:
    return dict(zip(languages, map(float, values), strict=True))


def _fitting(
    params: Params,
    table: UnitDamages,
    spec: QuantSpec,
    budget: int,
    damages_UxBxM: np.ndarray,
    offsets_M: np.ndarray,
    mask: Mask,
    start_M: np.ndarray | None,
) -> tuple[Knapsack, Bits, int]:
    """A choice whose true size fits: sums of unit bytes are first held against what they can cost.

    What all choices share (tensors that are not eligible, the mask) is the true size less the sum
    at the smallest choice. A choice that turns out smaller or larger moves the allowance by as
    much, since tensors of one width need no table and rows that are kept need no index.
    """
    costs, rows = table.costs.bytes, np.arange(len(table.costs.bytes))
    widths = np.array(table.widths)

    def sized(choice: np.ndarray) -> ModelSize:
        return protected_size(params, mask, spec, bits_of_units(table.units, widths[choice]))

    least, smallest, shared_slack = _smallest(table, sized)
    if smallest.total > budget:
        raise InputError(
            f"`budget` is {budget} bytes; the smallest possible file has {smallest.total}"
        )
    room = budget - smallest.total + float(costs[rows, least].sum())
    cheapest = float(costs.min(axis=1).sum())
    allowance = max(cheapest, room - table.costs.tables)
    best: tuple[Knapsack, int] | None = None
    too_much = np.inf
    for _ in range(REFITS):
        slack = max(0.0, room + shared_slack - allowance)
        solved = allocate(
            damages_UxBxM,
            costs,
            allowance,
            offsets=offsets_M,
            slack=slack,
            start=start_M,
            max_passes=PASSES if start_M is None else PASSES // 3,
        )
        size = sized(solved.choice).total
        start_M = solved.multipliers
        if size > budget:
            too_much = min(too_much, allowance)
            if best is None:  # nothing fits in the rounds left but what surely does
                worst = float((offsets_M + damages_UxBxM[rows, least].sum(axis=0)).max())
                best = replace(solved, choice=least, worst=worst), smallest.total
            allowance = max(cheapest, allowance - (size - budget))
        else:
            if best is None or solved.worst < best[0].worst:
                best = solved, size
            allowance += budget - size
        if allowance >= too_much or (1 - SPARE) * budget <= size <= budget:
            break
    assert best is not None
    return best[0], bits_of_units(table.units, widths[best[0].choice]), best[1]


def _smallest(
    table: UnitDamages, sized: Callable[[np.ndarray], ModelSize]
) -> tuple[Int[np.ndarray, "U"], ModelSize, float]:
    """The choice of fewest bytes, its size, and by how much sums may overstate that of others."""
    cheapest = table.costs.bytes.argmin(axis=1)
    choices = [cheapest]
    if len(np.unique(cheapest)) > 1:  # one width everywhere needs no tables
        choices += [np.full_like(cheapest, column) for column in range(len(table.widths))]
    choice, size = min(((c, sized(c)) for c in choices), key=lambda pair: pair[1].total)
    slack = table.costs.rounding + (table.costs.tables if len(np.unique(choice)) > 1 else 0)
    if KEPT in table.widths:  # what is protected in a row that is kept costs nothing more
        slack += sum(tensor.values + tensor.index for tensor in size.tensors)
    return choice, size, slack
