"""Techniques at a byte budget: the schemes that each would try, all of them within the budget."""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.prefill import make_prefix
from jaxprotect.quantization.scheme import Scheme, apply_scheme
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection.compensated import compensate
from jaxprotect.selection.criteria import weighted_square
from jaxprotect.selection.importance import relative_weights
from jaxprotect.selection.mixed_recipes import header_reserve, mixed, mixed_and_protected, whole
from jaxprotect.selection.prefix_learning import PrefixLearning, learn_prefix
from jaxprotect.selection.recipes import (
    GRANULARITIES,
    Ground,
    protected,
    uniform,
)
from jaxprotect.selection.whole_units import Whole
from jaxprotect.trees import leaf_paths

Technique = Callable[[Ground, int, QuantSpec], list[Scheme]]
"""(ground, budget in bytes, eligible leaves and dtypes) -> schemes to measure, the best to take."""

PREFIX_TOKENS = 4
"""Length of a learned prefix."""

CAUSAL_ONLY = ("error_compensation", "cached_prefix")
"""Techniques that follow a text from left to right."""


def plain(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Round to nearest with the most bits that fit."""
    return [uniform(ground, budget, base)]


def calibrated(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """The same bytes with ranges of the least squared error, plain and weighted by Fisher."""
    made = []
    for spec in _widest(ground, budget, base):
        clipped = replace(spec, ranges="mse")
        made += [ground.plain(clipped), weighted(ground, ground.plain(clipped))]
    return made


def compensated(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """The same bytes with rounding errors made up for (GPTQ), on clipped ranges."""
    return [
        with_compensation(ground, ground.plain(replace(spec, ranges="mse")))
        for spec in _widest(ground, budget, base)
    ]


def guided_protection(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Fewer bits, and the rest of the budget for weights that the language-guided choice keeps."""
    found = ground.fitting(budget, base)
    widest = found[0].bits
    tried = [spec for spec in found if spec.bits >= max(2, widest - 1)]
    made = [protected(ground, budget, spec) for spec in tried]
    return [scheme for scheme in made if scheme is not None]


def guided_protection_int8(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """As `guided_protection`, what is protected stored in INT8."""
    return guided_protection(ground, budget, replace(base, protected_dtype="int8"))


def clipped_protection(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """As `guided_protection`, with ranges of the least squared error."""
    return guided_protection(ground, budget, replace(base, ranges="mse"))


def mixed_precision(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Bits by output channel, for the worst-off language."""
    return [mixed(ground, budget, replace(base, **how)) for how in GRANULARITIES]


def clipped_mixed_precision(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Bits by output channel, with ranges of the least squared error."""
    return mixed_precision(ground, budget, replace(base, ranges="mse"))


def clipped_mixed_protection(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Bits by output channel and single weights in one budget, on clipped ranges."""
    clipped = replace(base, ranges="mse")
    return [mixed_and_protected(ground, budget, replace(clipped, **how)) for how in GRANULARITIES]


def whole_heads(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Fewer bits, and the rest of the budget for the q, k and v of whole heads."""
    return _whole(ground, budget, base, "heads")


def whole_layers(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Fewer bits, and the rest of the budget for whole layers."""
    return _whole(ground, budget, base, "layers")


def _whole(ground: Ground, budget: int, base: QuantSpec, what: Whole) -> list[Scheme]:
    reserve = header_reserve(ground, base)
    try:
        found = ground.fitting(budget - reserve, base)
    except InputError:  # nothing fits beside the names of what is kept
        return []
    tried = [spec for spec in found if spec.bits >= found[0].bits - 1]
    made = [whole(ground, budget, spec, what) for spec in tried]
    return [scheme for scheme in made if scheme is not None]


def cached_prefix(ground: Ground, budget: int, base: QuantSpec) -> list[Scheme]:
    """Plain quantization with a learned prefix in full precision."""
    if ground.start is None:
        return []
    try:
        return [with_prefix(ground, uniform(ground, budget - prefix_cost(ground), base))]
    except InputError:  # the prefix leaves less than the smallest file
        return []


def _widest(ground: Ground, budget: int, base: QuantSpec) -> list[QuantSpec]:
    """The quantizers of the most bits that fit, per channel and in groups."""
    found = ground.fitting(budget, base)
    return [spec for spec in found if spec.bits == found[0].bits]


def prefix_cost(ground: Ground) -> int:
    """Bytes that a learned prefix adds to the files."""
    assert ground.start is not None
    begin = make_prefix(ground.params, [ground.start] * PREFIX_TOKENS, ground.config)
    scheme = ground.plain(QuantSpec())
    return ground.file_size(replace(scheme, prefix=begin)) - ground.file_size(scheme)


TECHNIQUES: dict[str, Technique] = {
    "round_to_nearest": plain,
    "calibrated_ranges": calibrated,
    "error_compensation": compensated,
    "guided_protection": guided_protection,
    "guided_protection_int8": guided_protection_int8,
    "clipped_protection": clipped_protection,
    "mixed_precision": mixed_precision,
    "clipped_mixed_precision": clipped_mixed_precision,
    "clipped_mixed_protection": clipped_mixed_protection,
    "whole_heads": whole_heads,
    "whole_layers": whole_layers,
    "cached_prefix": cached_prefix,
}
"""Name -> technique; the names are those of `recommendation.TECHNIQUE_NAMES`."""


def weighted(ground: Ground, scheme: Scheme) -> Scheme:
    """The scheme with ranges that minimise the squared error weighted by all languages' Fisher."""
    evidence = ground.evidence(replace(scheme.spec, ranges="absmax"))
    shares = relative_weights(dict.fromkeys(evidence.nats, 1.0), evidence.nats)
    total = leaf_paths(weighted_square(shares, evidence))
    grids = weighted_mse_grids(
        ground.params,
        scheme.mask,
        scheme.spec,
        {p: jnp.asarray(v) for p, v in total.items() if is_eligible(p, scheme.spec.eligible)},
        scheme.bits,
    )
    return replace(scheme, grids=grids)


def with_compensation(ground: Ground, scheme: Scheme) -> Scheme:
    """The scheme with its rounding errors made up for, all languages alike."""
    weights = compensate(
        ground.params,
        scheme.mask,
        scheme.spec,
        ground.config,
        ground.select(0),
        grids=scheme.grids,
        bits=scheme.bits,
    )
    return replace(scheme, weights=weights)


def with_prefix(ground: Ground, scheme: Scheme) -> Scheme:
    """The scheme with a learned prefix, trained for the quantized weights on select sentences."""
    assert ground.start is not None
    begin = make_prefix(ground.params, [ground.start] * PREFIX_TOKENS, ground.config)
    learned = learn_prefix(
        apply_scheme(ground.params, scheme, ground.config),
        begin,
        ground.select(PREFIX_TOKENS),
        ground.select_base(),
        ground.config,
        options=PrefixLearning(),
    )
    return replace(scheme, prefix=learned)
