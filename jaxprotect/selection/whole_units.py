"""Whole heads or layers at 16 bits, everything else at one width, within a budget of bytes."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.precision import Units, unit_count
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.mixed_precision import Allocation, MeasureBits, allocate_bits
from jaxprotect.selection.targets import Demands
from jaxprotect.selection.unit_damages import UnitDamages

Whole = Literal["heads", "layers"]
"""What is kept as a whole: q, k and v of heads (units `head`), matrices of blocks (`layer`)."""


def candidates(units: Units, whole: Whole | str) -> Bool[np.ndarray, "U"]:
    """Which units are heads, or layers.

    Args:
        units: of level `head` or `layer`.
        whole: what to look for.

    Returns:
        [U] flags.
    """
    flags = np.zeros(unit_count(units), bool)
    names = tuple(f"blocks/attention/{n}/kernel" for n in ("qkv", "q", "k", "v"))
    for path, ids in units.items():
        if path in names if whole == "heads" else path.startswith("blocks/"):
            flags[np.unique(ids)] = True
    return flags


def choose_units(
    params: Params,
    table: UnitDamages,
    spec: QuantSpec,
    *,
    whole: Whole | str,
    base: int,
    budget: int,
    demands: Demands | None = None,
    measure: MeasureBits | None = None,
    rounds: int = 3,
) -> Allocation:
    """Keep as many whole heads or layers at 16 bits as fit, by guided gain per byte.

    A knapsack of two options per unit: its gain is the damage at `base` less that at 16 bits.

    Args:
        params: the parameter tree (only shapes are read).
        table: damages of units of level `head` or `layer` at `base` and 16 bits at least.
        spec: the quantizer.
        whole: which units may be kept.
        base: bits of all others.
        budget: bytes of the whole model.
        demands: what damages are held against.
        measure: relative damages, on sentences of the tune split.
        rounds: candidates to make with `measure`.

    Returns:
        The allocation; its size is at most `budget`.

    Raises:
        InputError: widths that the table lacks, no such unit, or a budget below the smallest file.
    """
    if whole not in get_args(Whole):
        raise unknown_name("whole", whole, get_args(Whole))
    if base not in table.widths or KEPT not in table.widths or base == KEPT:
        raise InputError(f"`base` is {base}; the table has {table.widths}, and needs {KEPT} too")
    columns = [table.widths.index(base), table.widths.index(KEPT)]
    chosen = table.costs.bytes[:, columns].copy()
    chosen[~candidates(table.units, whole), 1] = np.inf
    options = replace(
        table,
        widths=(base, KEPT),
        damages=table.damages[:, columns],
        costs=replace(table.costs, bytes=chosen),
    )
    return allocate_bits(
        params, options, spec, budget=budget, demands=demands, measure=measure, rounds=rounds
    )
