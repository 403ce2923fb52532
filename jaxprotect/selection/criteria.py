"""From a criterion's name to the set it chooses: one place for sweeps, searches and commands."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.errors import unknown_name
from jaxprotect.models.axes import Eligible
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.gains import Allocate, expected_gain, in_memory, rounding
from jaxprotect.selection.guided import Choice, language_guided
from jaxprotect.selection.scores import CRITERIA as BLIND
from jaxprotect.selection.scores import contrastive, fisher_delta
from jaxprotect.selection.statistics import Statistics
from jaxprotect.selection.targets import Demands
from jaxprotect.trees import map_leaves

GUIDED = "language_guided"
"""The criterion that is a choice, not a ranking: see `guided`."""

BY_LANGUAGE = (
    "expected_gain",
    "disparity_weighted",
    "worst_language",
    "first_reference",
    "contrastive",
    GUIDED,
)
"""Criteria that tell languages apart, and `expected_gain`, the pooled form of the last."""

CRITERIA = ("random", *BLIND, *BY_LANGUAGE)
"""Every criterion that `select` knows."""

Criterion = str

KEPT_BYTES = 2**31
"""Most bytes of squared gradients, all languages together, that are kept in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that a criterion may look at; nothing of it comes from test sentences.

    Args:
        params: the unquantized parameter tree.
        config: the architecture.
        spec: the quantizer.
        pooled: all languages' statistics as one, over the select sentences; called when needed.
        square: language -> its summed squared gradients; called when needed.
        nats: language -> the original model's nats over the select sentences.
        unprotected: language -> relative damage with nothing protected, on the tune sentences.
        measure: (mask, quantizer) -> relative damages on the tune sentences.
        reference: languages that the contrastive form holds against the worst one.
        allocate: makes the arrays of all languages' gains.
    """

    params: Params
    config: ModelConfig
    spec: QuantSpec
    pooled: Callable[[], Statistics]
    square: Callable[[str], dict]
    nats: Mapping[str, float]
    unprotected: Mapping[str, float]
    measure: Callable[[Mask, QuantSpec], Mapping[str, float]]
    reference: tuple[str, ...]
    allocate: Allocate = in_memory

    @functools.cached_property
    def delta(self) -> dict:
        """Q(w) - w with nothing protected."""
        return quantization_delta(self.params, masks.none(self.params), self.spec, self.config)

    @functools.cached_property
    def worst(self) -> str:
        """The language that plain quantization hurts most."""
        return max(self.unprotected, key=lambda language: self.unprotected[language])

    @functools.cached_property
    def squares(self) -> Mapping[str, dict]:
        """Every language's squared gradients: in memory if they fit, else read at each look-up."""
        one = sum(4 * leaf.size for leaf in jax.tree.leaves(self.params))
        if one * len(self.nats) <= KEPT_BYTES:
            return {language: self.square(language) for language in self.nats}
        return _OnDemand(self.square, tuple(self.nats))


class _OnDemand(Mapping[str, dict]):
    def __init__(self, read: Callable[[str], dict], names: tuple[str, ...]):
        self._read, self._names = read, names

    def __getitem__(self, name: str) -> dict:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def quantization_delta(params: Params, mask: Mask, spec: QuantSpec, config: ModelConfig) -> dict:
    """Q(w) - w: what quantization does to each weight; 0 where nothing is quantized."""
    quantized = quantize_tree(params, mask, spec, config)
    return jax.tree.map(jnp.subtract, quantized, params)


def select(
    criterion: Criterion,
    evidence: Evidence,
    count: int,
    *,
    demands: Demands | None = None,
    seed: int = 0,
    rounds: int = 3,
    within: Mask | None = None,
) -> tuple[Mask, Choice | None]:
    """The `count` weights that a criterion would protect.

    Args:
        criterion: one of `CRITERIA`.
        evidence: what it may look at.
        count: k.
        demands: what `language_guided` holds damages against.
        seed: of `random`.
        rounds: of `language_guided`.
        within: a set that `language_guided` chooses from.

    Returns:
        The mask, and for `language_guided` how it was found.

    Raises:
        InputError: an unknown criterion, or `count` out of range.
    """
    if criterion != GUIDED:
        return ranked(criterion, evidence, seed=seed)(count), None

    def measure(mask: Mask) -> Mapping[str, float]:
        return evidence.measure(mask, evidence.spec)

    choice = language_guided(
        evidence.params,
        evidence.squares,
        evidence.nats,
        evidence.spec,
        count=count,
        demands=demands,
        unprotected=evidence.unprotected if within is None else measure(within),
        measure=measure,
        rounds=rounds,
        within=within,
        allocate=evidence.allocate,
    )
    return choice.mask, choice


def ranked(criterion: Criterion, evidence: Evidence, *, seed: int = 0) -> Callable[[int], Mask]:
    """A criterion that is a top k, as a function of k; its scores are made once.

    Args:
        criterion: one of `CRITERIA`, but `language_guided`.
        evidence: what it may look at.
        seed: of `random`.

    Returns:
        k -> the mask of exactly k weights; `super_weights` has no more than one per layer.

    Raises:
        InputError: an unknown criterion; later, a count out of range.
    """
    eligible = evidence.spec.eligible
    if criterion == "random":
        found = masks.random_scores(evidence.params, seed)
    else:
        found = scores(criterion, evidence)

    def top(count: int) -> Mask:
        mask = masks.by_score(found, count=count, eligible=eligible)
        if criterion == "super_weights":  # a handful; the rest of its scores are 0, no ranking
            mask = masks.intersection(mask, jax.tree.map(lambda leaf: leaf > 0, found))
        return mask

    return top


def scores(criterion: Criterion, evidence: Evidence) -> dict:
    """The scores of a criterion that is a top k: a tree like the params.

    `expected_gain`: pooled gains of `gains.expected_gain`; `disparity_weighted`: the same, each
    language weighted by its unprotected relative damage over its nats; `worst_language`: that of
    the worst-off language alone; `first_reference`: Fisher x delta^2 of the first reference
    language alone, as calibration on English does; `contrastive`: of the worst-off language
    against the reference languages. The rest are formulas of `scores` on pooled statistics.

    Args:
        criterion: one of `CRITERIA`, but `random` and `language_guided`.
        evidence: what it may look at.

    Returns:
        Scores, higher = protect first.

    Raises:
        InputError: an unknown criterion.
    """
    if criterion in BLIND:
        return BLIND[criterion](evidence.params, evidence.pooled(), evidence.delta)
    if criterion == "expected_gain":
        return _gain_tree(evidence.pooled().square, evidence)
    if criterion == "worst_language":
        return _gain_tree(evidence.square(evidence.worst), evidence)
    if criterion == "disparity_weighted":
        weights = {
            language: max(0.0, evidence.unprotected[language]) / evidence.nats[language]
            for language in evidence.nats
        }
        return _gain_tree(weighted_square(weights, evidence), evidence)
    if criterion == "first_reference":
        return _fisher_delta(evidence.square(evidence.reference[0]), evidence.delta)
    if criterion == "contrastive":
        references = [name for name in evidence.reference if name != evidence.worst]
        return contrastive(
            _fisher_delta(evidence.square(evidence.worst), evidence.delta),
            [_fisher_delta(evidence.square(name), evidence.delta) for name in references],
        )
    raise unknown_name("criterion", criterion, CRITERIA)


def own_set(square: dict, delta: dict, *, fraction: float, eligible: Eligible = "matrices") -> Mask:
    """One language's own weights: the top of Fisher x delta^2, which knows of no other language.

    Args:
        square: its summed squared gradients.
        delta: Q(w) - w with nothing protected.
        fraction: share of the eligible weights.
        eligible: which leaves take part.

    Returns:
        The mask.
    """
    return masks.by_score(_fisher_delta(square, delta), fraction=fraction, eligible=eligible)


def _fisher_delta(square: dict, delta: dict) -> dict:
    empty = Statistics(gradient={}, absolute={}, square=square, inputs={})
    return fisher_delta(empty, delta)


def weighted_square(weights: Mapping[str, float], evidence: Evidence) -> dict:
    """sum_l weight_l * (squared gradients of l), a tree like the params."""
    total = None
    for language, weight in weights.items():
        part = jax.tree.map(lambda leaf, w=weight: w * leaf, evidence.square(language))
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    assert total is not None
    return total


def _gain_tree(square: dict, evidence: Evidence) -> dict:
    rounded = rounding(evidence.params, masks.none(evidence.params), evidence.spec)
    gains = expected_gain(square, rounded, evidence.spec)
    return map_leaves(
        lambda path, leaf: gains.get(path, np.zeros(leaf.shape, np.float32)), evidence.params
    )
