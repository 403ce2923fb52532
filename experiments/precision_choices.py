"""Exp-017's choices: for each method and budget, the bits and the protected weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.models.model import Model
from jaxprotect.quantization.grid import KEPT, Bits
from jaxprotect.quantization.precision import LEVELS, Level, uniform_bits, unit_ids
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.runs.statistics_store import StatisticsStore
from jaxprotect.selection import masks
from jaxprotect.selection.mixed_precision import Allocation, MeasureBits, allocate_bits
from jaxprotect.selection.mixed_protection import bits_and_weights, protect_within
from jaxprotect.selection.targets import Demands
from jaxprotect.selection.unit_damages import (
    UnitDamages,
    corrected,
    unit_damages,
    width_correction,
)
from jaxprotect.selection.whole_units import choose_units

METHODS = ("uniform", "mixed", "pooled", "fp16", "int8", "weights", "heads", "layers")
"""One width; bits by unit, for the worst language; for the mean; bits by unit and weights in fp16,
in int8; one width and weights; one width and whole heads; and whole layers."""

BASES = 2
"""How many widths below the budget are tried for methods that start from one width."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One choice to make.

    Args:
        method: of `METHODS`.
        level: of the units; None where there are none to choose.
        average: bits per weight that the budget stands for.
    """

    method: str
    level: Level | None
    average: float

    @property
    def name(self) -> str:
        """Such as `3.5-mixed-channel`."""
        return f"{self.average:g}-{self.method}" + (f"-{self.level}" if self.level else "")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What choices are made from; nothing of it comes from test sentences.

    Args:
        model: the unquantized model.
        spec: the quantizer.
        store: statistics on the select sentences.
        tables: level -> damages and bytes of its units, corrected on tune.
        plain: the same, not corrected.
        uniform: width -> relative damages at that width everywhere, on tune.
        measure: spec -> measure on tune.
        rounds: candidates per choice.
        shares: of a budget that go to protected weights at first.
    """

    model: Model
    spec: QuantSpec
    store: StatisticsStore
    tables: dict[str, UnitDamages]
    plain: dict[str, UnitDamages]
    uniform: dict[int, dict[str, float]]
    measure: Callable[[QuantSpec], MeasureBits]
    rounds: int
    shares: tuple[float, ...]

    def size(self, width: int) -> int:
        """Bytes of the model at one width."""
        units = self.tables["tensor"].units
        nothing = masks.none(self.model.params)
        bits = uniform_bits(units, width)
        return protected_size(self.model.params, nothing, self.spec, bits).total

    def budget(self, average: float) -> int:
        """Bytes of an average width: those of the two nearest widths, in proportion."""
        low = int(average)
        if low == average:
            return self.size(low)
        return int(self.size(low) + (average - low) * (self.size(low + 1) - self.size(low)))

    def bases(self, budget: int) -> list[int]:
        """Widths that fit in a budget everywhere, the largest first."""
        return [width for width in range(8, 1, -1) if self.size(width) <= budget]


def prepare(
    model: Model,
    spec: QuantSpec,
    store: StatisticsStore,
    tune: Encoded,
    *,
    widths: tuple[int, ...],
    rounds: int,
    shares: tuple[float, ...],
) -> Choices:
    """Tables of all levels, and what every width costs everywhere."""
    base = evaluate_encoded(model.params, tune, model.config)

    def measure_under(under: QuantSpec) -> MeasureBits:
        def measure(mask: Mask, bits: Bits) -> dict[str, float]:
            traced = jax.tree.map(jnp.asarray, bits)
            quantized = quantize_tree(model.params, mask, under, model.config, bits=traced)
            return relative_damages(base, evaluate_encoded(quantized, tune, model.config))

        return measure

    nothing, units = masks.none(model.params), unit_ids(model.params, "tensor", spec)
    uniform = {
        width: dict(measure_under(spec)(nothing, uniform_bits(units, width)))
        for width in widths
        if width != KEPT
    }
    levels: list[Level] = [
        n for n in LEVELS if spec.granularity != "tensor" or n in ("layer", "tensor")
    ]
    plain = {
        level: unit_damages(model.params, store.square, store.nats, spec, level, widths)
        for level in levels
    }
    tables = {
        level: corrected(table, width_correction(table, uniform)) for level, table in plain.items()
    }
    return Choices(
        model=model,
        spec=spec,
        store=store,
        tables=tables,
        plain=plain,
        uniform=uniform,
        measure=measure_under,
        rounds=rounds,
        shares=shares,
    )


def spec_of(plan: Plan, spec: QuantSpec) -> QuantSpec:
    """The quantizer of a plan: `int8` stores protected weights so."""
    return replace(spec, protected_dtype="int8") if plan.method == "int8" else spec


def choose(plan: Plan, choices: Choices) -> Allocation:
    """Make one choice.

    Args:
        plan: what to choose.
        choices: from what.

    Returns:
        Bits, mask and size within the plan's budget.

    Raises:
        InputError: an unknown method, or nothing fits.
    """
    budget, params = choices.budget(plan.average), choices.model.params
    spec = spec_of(plan, choices.spec)
    measure, level = choices.measure(spec), plan.level
    if plan.method == "uniform":
        return _uniform(choices, choices.bases(budget)[0])
    if plan.method in ("heads", "layers"):
        table = choices.tables["head" if plan.method == "heads" else "layer"]
        tried = [
            choose_units(
                params,
                table,
                spec,
                whole=plan.method,
                base=base,
                budget=budget,
                measure=measure,
                rounds=choices.rounds,
            )
            for base in choices.bases(budget)[:BASES]
        ]
        return min(tried, key=_worst)
    squares = {name: choices.store.square(name) for name in choices.store.languages}
    if plan.method == "weights":
        tried = [_weights(choices, squares, base, budget) for base in choices.bases(budget)[:BASES]]
        return min(tried, key=_worst)
    if level is None or plan.method not in METHODS:
        raise InputError(f"`method` is {plan.method!r} at {level}; allowed are {METHODS}")
    table = choices.tables[level]
    if plan.method in ("mixed", "pooled"):
        languages = len(table.languages)
        mean = Demands(
            languages=table.languages,
            weights=np.full((1, languages), 1 / languages),
            limits=np.zeros(1),
        )
        return allocate_bits(
            params,
            table,
            spec,
            budget=budget,
            demands=mean if plan.method == "pooled" else None,
            measure=measure,
            rounds=choices.rounds,
        )
    return bits_and_weights(
        params,
        squares,
        choices.store.nats,
        spec,
        table,
        level=level,
        budget=budget,
        measure=measure,
        shares=choices.shares,
        widths=table.widths,
        factors=width_correction(choices.plain[level], choices.uniform),
    )


def _worst(made: Allocation) -> float:
    return max(made.measured.values())


def _uniform(choices: Choices, width: int) -> Allocation:
    damages = choices.uniform[width]
    return Allocation(
        bits=uniform_bits(choices.tables["tensor"].units, width),
        mask=masks.none(choices.model.params),
        size=choices.size(width),
        multipliers={},
        predicted={},
        bound=0.0,
        measured=damages,
    )


def _weights(choices: Choices, squares: dict[str, dict], width: int, budget: int) -> Allocation:
    """One width, and the guided set within what it leaves."""
    plain, params = _uniform(choices, width), choices.model.params
    mask = protect_within(
        params,
        squares,
        choices.store.nats,
        choices.spec,
        plain.bits,
        budget=budget,
        measured=plain.measured,
    )
    size = protected_size(params, mask, choices.spec, plain.bits).total
    measured = dict(choices.measure(choices.spec)(mask, plain.bits))
    return replace(plain, mask=mask, size=size, measured=measured)
