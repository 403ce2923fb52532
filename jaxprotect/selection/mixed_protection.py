"""One budget of bytes for two things: bits by unit, and single weights that are protected."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits
from jaxprotect.quantization.precision import WIDTHS, Level
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import marginal_bits
from jaxprotect.selection import masks
from jaxprotect.selection.byte_budget import fill_bytes
from jaxprotect.selection.gains import Allocate, in_memory
from jaxprotect.selection.guided import as_mask, corrected_gains
from jaxprotect.selection.mixed_precision import Allocation, MeasureBits, allocate_bits
from jaxprotect.selection.targets import Demands, as_small_as_can_be
from jaxprotect.selection.top_gains import minimax_choice, top_by_multipliers
from jaxprotect.selection.unit_damages import UnitDamages, corrected, unit_damages


def protect_within(
    params: Params,
    squares: Mapping[str, dict],
    nats: Mapping[str, float],
    spec: QuantSpec,
    bits: Bits,
    *,
    budget: int,
    around: Mask | None = None,
    measured: Mapping[str, float] | None = None,
    demands: Demands | None = None,
    max_passes: int = 20,
    allocate: Allocate = in_memory,
) -> Mask:
    """The language-guided set under given bits, as large as a budget of bytes holds.

    The multipliers are those of about as many weights as `marginal_bits` says will fit.

    Args:
        params: the unquantized parameter tree.
        squares: language -> summed squared gradients.
        nats: language -> the original model's nats over the same sentences.
        spec: the quantizer.
        bits: of every output channel.
        budget: bytes of the whole model.
        around: the set whose scales errors are taken at; none by default.
        measured: language -> relative damage measured with `around` under `bits`.
        demands: what damages are held against, of the same languages.
        max_passes: passes over the gains.
        allocate: makes the arrays of all languages' gains.

    Returns:
        The mask; nothing where not even one weight fits.

    Raises:
        InputError: a budget below the size without protection.
    """
    languages = list(squares)
    nothing = masks.none(params)
    plain = protected_size(params, nothing, spec, bits).total
    if budget < plain:
        raise InputError(f"`budget` is {budget} bytes; without protection the model has {plain}")
    demands = as_small_as_can_be(languages) if demands is None else demands
    weights_MxL = demands.weights[:, [demands.languages.index(name) for name in languages]]
    around = nothing if around is None else around
    gains, losses_L = corrected_gains(
        params, squares, nats, spec, around, measured, bits, allocate=allocate
    )
    total = masks.eligible_count(params, spec.eligible)
    count = 0
    for _ in range(3):  # the price of a weight depends on how many there are
        price = marginal_bits(spec, count / total)
        count = min(total, int(8 * (budget - plain) / price))
    if count == 0:
        return nothing
    solved, _ = minimax_choice(
        gains,
        weights_MxL @ losses_L - demands.limits,
        weights=weights_MxL,
        count=count,
        max_passes=max_passes,
    )
    of_language = solved.multipliers @ weights_MxL

    def top(size: int) -> Mask:
        return as_mask(top_by_multipliers(gains, of_language, size), params)

    return fill_bytes(top, budget - plain, params, spec, start=count, most=total, bits=bits)


def bits_and_weights(
    params: Params,
    squares: Mapping[str, dict],
    nats: Mapping[str, float],
    spec: QuantSpec,
    table: UnitDamages,
    *,
    level: Level,
    budget: int,
    measure: MeasureBits,
    shares: Sequence[float] = (0.03, 0.1),
    widths: Sequence[int] = WIDTHS,
    factors: Float[np.ndarray, "B L"] | None = None,
    demands: Demands | None = None,
    alternations: int = 2,
    allocate: Allocate = in_memory,
) -> Allocation:
    """Split a budget between bits and protected weights; the best measured split is returned.

    For each share: bits within the rest of the budget, protected weights within what that leaves;
    then, by turns, bits around these weights and weights under those bits.

    Args:
        params: the unquantized parameter tree.
        squares: language -> summed squared gradients.
        nats: language -> the original model's nats over the same sentences.
        spec: the quantizer; `protected_dtype` says how single weights are kept.
        table: damages and bytes of units with nothing protected, corrected or not.
        level: the level of its units.
        budget: bytes of the whole model.
        measure: relative damages, on sentences of the tune split.
        shares: of the budget, for protected weights at first; those for which the rest is no
            file are left out.
        widths: the table's.
        factors: correction of tables around protected weights.
        demands: what damages are held against.
        alternations: how often weights are chosen per share.
        allocate: makes the arrays of all languages' gains.

    Returns:
        Bits and mask; the size of both is at most `budget`.

    Raises:
        InputError: no share, or one that is not in 0 to 1; no share leaves room for a file.
    """
    odd = [share for share in shares if not 0 <= share < 1]
    if odd or not shares:
        raise InputError(f"`shares` is {tuple(shares)}; allowed are numbers from 0 to below 1")
    if alternations < 1:
        raise InputError(f"`alternations` is {alternations}; it must be at least 1")
    demands = as_small_as_can_be(table.languages) if demands is None else demands
    found: list[Allocation] = []
    refused: InputError | None = None
    for share in shares:
        try:
            first = int((1 - share) * budget)
            made = allocate_bits(
                params, table, spec, budget=first, demands=demands, measure=measure, rounds=1
            )
        except InputError as error:
            refused = error
            continue
        for turn in range(alternations):
            if turn:
                moved = unit_damages(
                    params, squares.__getitem__, nats, spec, level, widths, mask=made.mask
                )
                made = allocate_bits(
                    params,
                    moved if factors is None else corrected(moved, factors),
                    spec,
                    budget=budget,
                    demands=demands,
                    mask=made.mask,
                    measure=measure,
                    rounds=1,
                )
                found.append(made)
            mask = protect_within(
                params,
                squares,
                nats,
                spec,
                made.bits,
                budget=budget,
                around=made.mask,
                measured=made.measured,
                demands=demands,
                allocate=allocate,
            )
            size = protected_size(params, mask, spec, made.bits).total
            made = replace(made, mask=mask, size=size, measured=dict(measure(mask, made.bits)))
            found.append(made)
    if not found:
        assert refused is not None
        raise refused
    return min(found, key=lambda made: float(demands.excess(made.measured).max()))
