"""The language-guided choice: the k weights that leave the worst-off language best off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.gains import (
    Allocate,
    in_memory,
    predicted_damage,
    rounding,
    stack_gains,
)
from jaxprotect.selection.targets import Demands, as_small_as_can_be
from jaxprotect.selection.top_gains import Gains, minimax_choice, removed
from jaxprotect.trees import leaf_paths, map_leaves

Measure = Callable[[Mask], Mapping[str, float]]
"""A mask -> every language's damage, relative to its original nats."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A set of weights and what is known about it.

    Args:
        mask: what to protect.
        multipliers: language -> what its gains count in the score that the set is the top of.
        predicted: language -> the damage that the surrogate expects, relative.
        bound: no set of as many weights has a smaller worst excess in the surrogate.
        passes: how often the gains were read.
        measured: language -> measured damage, relative; empty if it was not measured.
        rounds: the worst measured excess of every round, in order.
    """

    mask: Mask
    multipliers: dict[str, float]
    predicted: dict[str, float]
    bound: float
    passes: int
    measured: dict[str, float] = field(default_factory=dict)
    rounds: tuple[float, ...] = ()


def as_mask(chosen: Mapping[str, np.ndarray], params: Params) -> Mask:
    """A mask over the whole tree; leaves that are not named are not protected."""
    nothing = np.zeros((), bool)
    return map_leaves(lambda path, leaf: chosen.get(path, nothing), params)


def corrected_gains(
    params: Params,
    squares: Mapping[str, dict],
    nats: Mapping[str, float],
    spec: QuantSpec,
    mask: Mask,
    measured: Mapping[str, float] | None,
    bits: Bits | None = None,
    *,
    allocate: Allocate = in_memory,
) -> tuple[dict[str, Float[np.ndarray, "L ..."]], Float[np.ndarray, "L"]]:
    """The surrogate around one set: relative gains and losses, corrected by what was measured.

    Errors are those at the scales that the set leaves. Each language's gains are multiplied by
    its measured over its predicted damage (within 0.1 to 10), and its loss with nothing protected
    is set so that at this very set the surrogate says what was measured.

    Args:
        params: the unquantized parameter tree.
        squares: language -> summed squared gradients.
        nats: language -> the original model's nats over the same sentences.
        spec: the quantizer.
        mask: the set to linearise around.
        measured: language -> relative damage measured with that set; None for no correction.
        bits: mixed precision, see `Bits`.
        allocate: makes the arrays of the gains.

    Returns:
        Leaf path -> [L, *leaf] gains, and [L] losses, both relative to the original nats, the
        languages in the order of `squares`.
    """
    languages = list(squares)
    rounded = rounding(params, mask, spec, bits)
    expected: dict[str, float] = {}

    def factor(language: str, square: dict) -> float:
        expected[language] = predicted_damage(square, rounded, mask) / nats[language]
        correction = 1.0
        if measured is not None:
            found = measured[language] / max(expected[language], 1e-12)
            correction = min(max(found, 0.1), 10.0)
        return correction / nats[language]

    gains = stack_gains(squares, rounded, spec, factor=factor, allocate=allocate)
    loss_L = np.array([(measured or expected)[name] for name in languages])
    return gains, loss_L + removed(gains, leaf_paths(mask))


def language_guided(
    params: Params,
    squares: Mapping[str, dict],
    nats: Mapping[str, float],
    spec: QuantSpec,
    *,
    count: int,
    demands: Demands | None = None,
    unprotected: Mapping[str, float] | None = None,
    measure: Measure | None = None,
    rounds: int = 3,
    within: Mask | None = None,
    bits: Bits | None = None,
    max_passes: int = 20,
    allocate: Allocate = in_memory,
) -> Choice:
    """Protect the `count` weights that leave the worst excess over what is demanded smallest.

    Without demands, that is the largest relative damage of any language. The surrogate is
    `expected_gain`, linear around a candidate. With `measure`, each round measures its candidate,
    corrects the surrogate there and chooses again; the candidate of the smallest measured excess
    is returned.

    Args:
        params: the unquantized parameter tree.
        squares: language -> summed squared gradients over its select sentences.
        nats: language -> the original model's nats over the same sentences.
        spec: the quantizer.
        count: k, how many weights to protect.
        demands: what damages are held against, of the same languages.
        unprotected: language -> relative damage measured with nothing protected, or with all of
            `within`; corrects the first round. Predicted if not given.
        measure: mask -> relative damages, on sentences of the tune split; no correction without.
        rounds: candidates to make with `measure`.
        within: choose among the weights of this set only, such as one that is too large; the
            first round is linear around it.
        bits: mixed precision, see `Bits`; `measure` and `unprotected` are under it too.
        max_passes: passes over the gains per round.
        allocate: makes the arrays of the gains, all languages' together, such as in files.

    Returns:
        The best candidate.

    Raises:
        InputError: languages that differ, statistics that do not fit the model, `count` out of
            range, or fewer than 1 round.

    Source: the minimax dual is this project's; see `minimax` and `gains`.
    """
    languages = list(squares)
    demands = as_small_as_can_be(languages) if demands is None else demands
    _same_languages("nats", nats, languages)
    _same_languages("demands", dict.fromkeys(demands.languages), languages)
    if unprotected is not None:
        _same_languages("unprotected", unprotected, languages)
    if rounds < 1:
        raise InputError(f"`rounds` is {rounds}; it must be at least 1")
    weights_MxL = demands.weights[:, [demands.languages.index(name) for name in languages]]
    mask, measured = masks.none(params) if within is None else within, unprotected
    multipliers_M: np.ndarray | None = None
    best: Choice | None = None
    history: list[float] = []
    passes = 0
    for _ in range(rounds if measure else 1):
        gains, losses_L = corrected_gains(
            params, squares, nats, spec, mask, measured, bits, allocate=allocate
        )
        solved, chosen = minimax_choice(
            gains if within is None else _members(gains, within),
            weights_MxL @ losses_L - demands.limits,
            weights=weights_MxL,
            count=count,
            start=multipliers_M,
            max_passes=max_passes,
        )
        if within is not None:
            chosen = _as_members(chosen, within, gains)
        predicted_L = losses_L - removed(gains, chosen)
        del gains  # as large as all statistics together
        multipliers_M, mask = solved.multipliers, as_mask(chosen, params)
        passes += solved.passes
        measured = None if measure is None else dict(measure(mask))
        if measured is not None:
            _same_languages("measure", measured, languages)
        of_language_L = solved.multipliers @ weights_MxL
        choice = Choice(
            mask=mask,
            multipliers=dict(zip(languages, map(float, of_language_L), strict=True)),
            predicted=dict(zip(languages, map(float, predicted_L), strict=True)),
            bound=solved.bound,
            passes=passes,
            measured=measured or {},
        )
        if measured is not None:
            history.append(float(demands.excess(measured).max()))
        if best is None or history[-1] < float(demands.excess(best.measured).max()):
            best = choice
    assert best is not None
    return replace(best, passes=passes, rounds=tuple(history))


def _members(gains: Gains, within: Mask) -> dict[str, np.ndarray]:
    """The gains of a set's weights alone: [L, members] of each leaf."""
    flags = leaf_paths(within)
    return {
        path: leaf[:, np.broadcast_to(on_host(flags[path]), leaf.shape[1:])]
        for path, leaf in gains.items()
    }


def _as_members(
    chosen: Mapping[str, np.ndarray], within: Mask, gains: Gains
) -> dict[str, np.ndarray]:
    """Flags over members, put where the members stand."""
    flags, placed = leaf_paths(within), {}
    for path, leaf in gains.items():
        placed[path] = np.broadcast_to(on_host(flags[path]), leaf.shape[1:]).copy()
        placed[path][placed[path]] = chosen[path]
    return placed


def _same_languages(name: str, found: Mapping[str, object], languages: list[str]) -> None:
    if set(found) != set(languages):
        odd = sorted(set(found) ^ set(languages))
        raise InputError(f"`{name}` and `squares` differ in the languages {odd}")
