"""Ways of spending a byte budget on a model: (ground, budget) -> scheme, never larger than it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import marginal_bits
from jaxprotect.selection import masks
from jaxprotect.selection.byte_budget import fill_bytes
from jaxprotect.selection.criteria import GUIDED, Evidence, select
from jaxprotect.selection.gains import predicted_damage, rounding
from jaxprotect.selection.guided import as_mask, corrected_gains
from jaxprotect.selection.top_gains import top_by_multipliers

GRANULARITIES: tuple[dict, ...] = (
    {"granularity": "channel"},
    {"granularity": "group", "group_size": 64},
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """All that a recipe may build on; nothing of it comes from test sentences.

    Args:
        params: the unquantized parameter tree.
        config: the architecture.
        evidence: quantizer -> what is known under it.
        measure: scheme -> relative damages on the tune sentences.
        file_size: scheme -> bytes of the files that it is stored in.
        select: P -> the select sentences, with room for a cached prefix of P tokens.
        select_base: the original model's evaluation of them.
        start: id of the start token; None where sentences begin without one.
        rounds: candidates per guided choice.
    """

    params: Params
    config: ModelConfig
    evidence: Callable[[QuantSpec], Evidence]
    measure: Callable[[Scheme], Mapping[str, float]]
    file_size: Callable[[Scheme], int]
    select: Callable[[int], Encoded]
    select_base: Callable[[], Evaluation]
    start: int | None = None
    rounds: int = 2

    def worst(self, scheme: Scheme) -> float:
        """The largest relative damage on the tune sentences."""
        return max(self.measure(scheme).values())

    def plain(self, spec: QuantSpec) -> Scheme:
        """Plain quantization."""
        return Scheme(spec=spec, mask=masks.none(self.params))

    def fitting(self, budget: int, base: QuantSpec) -> list[QuantSpec]:
        """See `fitting_quantizers`."""
        return fitting_quantizers(self.params, self.file_size, budget, base)


def quantizers(base: QuantSpec) -> list[QuantSpec]:
    """Every width, per channel and in groups, with the other options of `base`."""
    return [replace(base, bits=bits, **how) for bits in range(2, 9) for how in GRANULARITIES]


def fitting_quantizers(
    params: Params, file_size: Callable[[Scheme], int], budget: int, base: QuantSpec
) -> list[QuantSpec]:
    """The plain quantizers whose file fits, the largest file first.

    Args:
        params: the parameter tree; only shapes are read.
        file_size: scheme -> bytes of the files that it is stored in.
        budget: bytes of the files.
        base: eligible leaves and dtypes.

    Returns:
        The quantizers.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    nothing = masks.none(params)
    sizes = {spec: file_size(Scheme(spec=spec, mask=nothing)) for spec in quantizers(base)}
    fitting = [spec for spec, size in sizes.items() if size <= budget]
    if not fitting:
        smallest, size = min(sizes.items(), key=lambda item: item[1])
        raise InputError(
            f"`budget` is {budget} bytes; the smallest possible file, {smallest.label}, has {size}"
        )
    return sorted(fitting, key=lambda spec: -sizes[spec])


def uniform(ground: Ground, budget: int, base: QuantSpec) -> Scheme:
    """The plain quantizer that fits and is predicted to hurt the worst language least.

    Args:
        ground: what to build on.
        budget: bytes of the files.
        base: eligible leaves and dtypes.

    Returns:
        The scheme.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    fitting = ground.fitting(budget, base)
    widest = fitting[0].bits
    # One bit quarters the squared error: no granularity makes up for two.
    rivals = [spec for spec in fitting if spec.bits >= widest - 1]
    return ground.plain(min(rivals, key=lambda spec: predicted_worst(ground, spec)))


def predicted_worst(ground: Ground, spec: QuantSpec) -> float:
    """The largest relative damage of plain quantization, predicted: 1/2 sum F e^2 / nats."""
    evidence, nothing = ground.evidence(spec), masks.none(ground.params)
    rounded = rounding(ground.params, nothing, spec)
    return max(
        predicted_damage(evidence.squares[language], rounded, nothing) / nats
        for language, nats in evidence.nats.items()
    )


def protected(ground: Ground, budget: int, spec: QuantSpec) -> Scheme | None:
    """A quantizer with as many weights protected as fit, chosen for the worst-off language.

    The guided choice is made at about the size that fits; its multipliers then rank the weights
    around it, and the ranking is cut where the file meets the budget.

    Args:
        ground: what to build on.
        budget: bytes of the files.
        spec: the quantizer.

    Returns:
        The scheme; None if nothing fits beside the codes.
    """
    evidence = ground.evidence(spec)
    total = masks.eligible_count(ground.params, spec.eligible)
    unprotected = ground.file_size(ground.plain(spec))
    room = budget - unprotected
    count = affordable(room, total, spec)
    if count < 1:
        return None
    mask, choice = select(GUIDED, evidence, count, rounds=ground.rounds)
    assert choice is not None
    measured = choice.measured
    gains, _ = corrected_gains(
        ground.params,
        evidence.squares,
        evidence.nats,
        spec,
        mask,
        measured,
        allocate=evidence.allocate,
    )
    multipliers = np.array([choice.multipliers[name] for name in evidence.squares])

    def top(k: int) -> Mask:
        return as_mask(top_by_multipliers(gains, multipliers, k), ground.params)

    filled = fill_bytes(
        top,
        room,
        ground.params,
        spec,
        start=count,
        most=total,
        cost_of=lambda chosen: ground.file_size(Scheme(spec=spec, mask=chosen)) - unprotected,
    )
    scheme = Scheme(spec=spec, mask=filled)
    return scheme if ground.file_size(scheme) <= budget else None


def affordable(room: int, total: int, spec: QuantSpec) -> int:
    """How many scattered weights about so many bytes protect, of `total`."""
    count = 8 * max(room, 0) / marginal_bits(spec, 0.0)
    for _ in range(8):  # the price of one more depends on how many there are
        price = marginal_bits(spec, min(count / total, 1.0))
        count = 8 * max(room, 0) / price
    return min(int(count), total)
