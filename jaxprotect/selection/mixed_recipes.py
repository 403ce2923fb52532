"""Recipes of mixed precision: bits by channel, protected weights too, whole heads and layers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from jaxprotect.host_arrays import on_host
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.precision import Level
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.mixed_precision import MeasureBits, allocate_bits
from jaxprotect.selection.mixed_protection import bits_and_weights
from jaxprotect.selection.recipes import Ground
from jaxprotect.selection.unit_damages import (
    UnitDamages,
    corrected,
    unit_damages,
    width_correction,
)
from jaxprotect.selection.whole_units import Whole, choose_units

MIXED_WIDTHS = (2, 3, 4, 5, 6, 8, KEPT)
"""Widths that mixed precision chooses from."""

ENTRY_BYTES = 128
"""What the name, type, shape and place of one array take in a file's header, at most."""


def mixed(ground: Ground, budget: int, spec: QuantSpec) -> Scheme:
    """Bits by output channel within a budget.

    Args:
        ground: what to build on.
        budget: bytes of the files.
        spec: the quantizer; its `bits` do not matter.

    Returns:
        The scheme of the smallest worst damage on tune.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    made = allocate_bits(
        ground.params,
        channel_table(ground, spec)[0],
        spec,
        budget=budget - header_reserve(ground, spec),
        measure=_measure_bits(ground, spec),
        rounds=ground.rounds,
    )
    return Scheme(spec=spec, mask=made.mask, bits=made.bits)


def mixed_and_protected(ground: Ground, budget: int, spec: QuantSpec) -> Scheme:
    """Bits by output channel and single protected weights within one budget.

    Args:
        ground: what to build on.
        budget: bytes of the files.
        spec: the quantizer; its `bits` do not matter.

    Returns:
        The scheme of the best measured split.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    evidence = ground.evidence(spec)
    table, factors = channel_table(ground, spec)
    made = bits_and_weights(
        ground.params,
        evidence.squares,
        evidence.nats,
        spec,
        table,
        level="channel",
        widths=MIXED_WIDTHS,
        factors=factors,
        budget=budget - header_reserve(ground, spec),
        measure=_measure_bits(ground, spec),
        allocate=evidence.allocate,
    )
    return Scheme(spec=spec, mask=made.mask, bits=made.bits)


def whole(ground: Ground, budget: int, spec: QuantSpec, what: Whole) -> Scheme | None:
    """Whole heads or layers at 16 bits, as many as fit beside `spec.bits`.

    Args:
        ground: what to build on.
        budget: bytes of the files.
        spec: the quantizer of the rest.
        what: `heads` or `layers`.

    Returns:
        The scheme; None if not one fits.
    """
    evidence = ground.evidence(spec)
    level: Level = "head" if what == "heads" else "layer"
    table = unit_damages(
        ground.params, evidence.square, evidence.nats, spec, level, (spec.bits, KEPT)
    )
    made = choose_units(
        ground.params,
        table,
        spec,
        whole=what,
        base=spec.bits,
        budget=budget - header_reserve(ground, spec),
        measure=_measure_bits(ground, spec),
        rounds=1,
    )
    scheme = Scheme(spec=spec, mask=made.mask, bits=made.bits)
    if not any((on_host(leaf) == KEPT).any() for leaf in made.bits.values()):
        return None
    return scheme


def channel_table(ground: Ground, spec: QuantSpec) -> tuple[UnitDamages, Float[np.ndarray, "B L"]]:
    """Damages by channel and width, corrected by what each width does everywhere; the factors."""
    evidence = ground.evidence(spec)
    table = unit_damages(
        ground.params, evidence.square, evidence.nats, spec, "channel", MIXED_WIDTHS
    )
    factors = width_correction(table, measured_widths(ground, spec))
    return corrected(table, factors), factors


def measured_widths(ground: Ground, spec: QuantSpec) -> dict[int, Mapping[str, float]]:
    """Width -> relative damages on tune where every weight has it."""
    return {
        width: ground.evidence(replace(spec, bits=width)).unprotected
        for width in MIXED_WIDTHS
        if width != KEPT
    }


def header_reserve(ground: Ground, spec: QuantSpec) -> int:
    """Bytes that names and shapes of a mixed file take at most, beside its arrays."""
    plain = ground.plain(spec)
    counted = protected_size(ground.params, plain.mask, spec)
    names = ENTRY_BYTES * (len(MIXED_WIDTHS) + 3) * len(counted.tensors)
    return ground.file_size(plain) - counted.total + names


def _measure_bits(ground: Ground, spec: QuantSpec) -> MeasureBits:
    return lambda mask, bits: ground.measure(Scheme(spec=spec, mask=mask, bits=bits))
