"""What counts as enough: targets on every language's damage, met with confidence or not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.evaluation.bootstrap import DRAWS, LEVEL, resampled_sums, simultaneous_upper
from jaxprotect.evaluation.disparity import reference_languages
from jaxprotect.evaluation.evaluation import Evaluation, check_base, check_variant


@dataclass(frozen=True, kw_only=True)
class Target:
    """What every language must meet; all that is given holds at once.

    Args:
        share: largest damage as a share of the same language's unprotected damage; 0.1 asks that
            nine tenths be recovered.
        relative: largest damage relative to the original nats.
        disparity: largest relative damage over the mean of the reference languages.
        bits_per_byte: most bits per byte of the quantized model.
    """

    share: float | None = None
    relative: float | None = None
    disparity: float | None = None
    bits_per_byte: float | None = None

    def __post_init__(self) -> None:
        """Refuse a target that asks nothing, or something that is no number above 0."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            raise InputError(f"`target` asks nothing; give one of {', '.join(asdict(self))}")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"`{name}` is {value}; a target must be a number above 0")
        if self.disparity is not None and self.disparity < 1:
            raise InputError(f"`disparity` is {self.disparity}; no set of languages is below 1")

    @property
    def label(self) -> str:
        """For tables, such as `damage <= 10 % of unprotected`."""
        said = {
            "share": lambda v: f"damage <= {100 * v:g} % of unprotected",
            "relative": lambda v: f"damage <= {100 * v:g} % of the original nats",
            "disparity": lambda v: f"disparity <= {v:g}",
            "bits_per_byte": lambda v: f"bits per byte <= {v:g}",
        }
        given = ((name, value) for name, value in asdict(self).items() if value is not None)
        return ", ".join(said[name](value) for name, value in given)


@dataclass(frozen=True, kw_only=True, eq=False)
class Demands:
    """A target as M linear demands on L relative damages: weights @ damages <= limits.

    Args:
        languages: of the columns.
        weights: how much each damage counts in each demand.
        limits: what each demand allows, relative to the original nats.
    """

    languages: tuple[str, ...]
    weights: Float[np.ndarray, "M L"]
    limits: Float[np.ndarray, "M"]

    def excess(self, damages: Mapping[str, float]) -> Float[np.ndarray, "M"]:
        """By how much damages miss each demand (negative = met with room)."""
        return self.weights @ [damages[name] for name in self.languages] - self.limits


def as_small_as_can_be(languages: Sequence[str]) -> Demands:
    """No limit: each language's damage is wanted at 0, and the worst counts."""
    return Demands(
        languages=tuple(languages),
        weights=np.eye(len(languages)),
        limits=np.zeros(len(languages)),
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a variant meets a target.

    Args:
        met: every language's upper bound is at most 0.
        excess: language -> by how much it misses its tightest target, relative to its original
            nats (negative = met with room).
        upper: language -> upper bound of the excess that holds in all languages at once.
        worst: the language of the largest upper bound.
        margins: upper bound less excess of each demand, in the order of `Demands`.
    """

    met: bool
    excess: dict[str, float]
    upper: dict[str, float]
    worst: str
    margins: tuple[float, ...] = ()


def check_target(
    target: Target,
    base: Evaluation,
    unprotected: Evaluation,
    variant: Evaluation,
    *,
    reference: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Verdict:
    """Hold a variant against a target, with a bound for all languages and demands at once.

    Each demand is written as an excess that must not be above 0 and is linear in the damages, so
    that nothing is divided by what may be 0: D_l - share * U_l, D_l - relative * N_l,
    D_l / N_l - disparity * mean_r (D_r / N_r), and N_l + D_l - bits * ln 2 * bytes_l.

    Args:
        target: the demands.
        base: the original model's evaluation.
        unprotected: that of the quantized model with nothing protected.
        variant: that of the variant.
        reference: languages whose mean the disparity refers to.
        draws: bootstrap draws over sentences.
        seed: of the draws.
        level: probability that all upper bounds hold.

    Returns:
        The verdict.

    Raises:
        InputError: evaluations that are not of the same sentences and languages, or fewer than 2
            sentences.
    """
    values_M, samples = excess_samples(
        target, base, unprotected, variant, reference=reference, draws=draws, seed=seed
    )
    languages = sorted(base.nats)
    upper_M = simultaneous_upper(values_M, samples, level, sentences=len(base.ids))
    values_L = values_M.reshape(-1, len(languages)).max(axis=0)
    upper_L = upper_M.reshape(-1, len(languages)).max(axis=0)
    return Verdict(
        met=bool((upper_L <= 0).all()),
        excess=dict(zip(languages, map(float, values_L), strict=True)),
        upper=dict(zip(languages, map(float, upper_L), strict=True)),
        worst=languages[int(np.argmax(upper_L))],
        margins=tuple(map(float, upper_M - values_M)),
    )


def excess_samples(
    target: Target,
    base: Evaluation,
    unprotected: Evaluation,
    variant: Evaluation,
    *,
    reference: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "draws M"]]:
    """By how much a variant misses each demand, on all sentences and in every bootstrap draw.

    Args:
        target: the demands.
        base: the original model's evaluation.
        unprotected: that of the quantized model with nothing protected.
        variant: that of the variant.
        reference: languages whose mean the disparity refers to.
        draws: bootstrap draws over sentences.
        seed: of the draws; the same draws for every variant.

    Returns:
        The values and the samples, in the order of `Demands`; the languages are sorted.

    Raises:
        InputError: as `check_target`.
    """
    check_base(base)
    check_variant(base, unprotected, "unprotected")
    check_variant(base, variant, "variant")
    if len(base.ids) < 2:
        raise InputError("`base` has 1 sentence; a bound needs at least 2")
    languages = sorted(base.nats)
    nats = _columns(base.nats, languages)
    added = _columns(variant.nats, languages) - nats
    lost = _columns(unprotected.nats, languages) - nats
    stacked_SxM = np.concatenate([nats, added, lost, _columns(base.bytes, languages)], axis=1)
    chosen = _reference_columns(target, base, languages, reference)

    def excess(sums: Float[np.ndarray, "... S"]) -> Float[np.ndarray, "... M"]:
        N, D, U, written = np.split(sums, 4, axis=-1)
        weights_MxL, limits = _linear(target, N, U, written, chosen)
        return (D / N) @ weights_MxL.T - limits

    samples = excess(resampled_sums(stacked_SxM, draws=draws, seed=seed))
    return excess(stacked_SxM.sum(axis=0)), samples


def demands_of(
    target: Target,
    base: Evaluation,
    unprotected: Evaluation,
    *,
    reference: Sequence[str] | None = None,
) -> Demands:
    """What a target asks of the relative damages, on the sentences as they are.

    Args:
        target: the demands.
        base: the original model's evaluation.
        unprotected: that of the quantized model with nothing protected.
        reference: languages whose mean the disparity refers to.

    Returns:
        One row per demand and language; the languages are sorted.
    """
    languages = sorted(base.nats)
    N = _columns(base.nats, languages).sum(axis=0)
    U = _columns(unprotected.nats, languages).sum(axis=0) - N
    written = _columns(base.bytes, languages).sum(axis=0)
    chosen = _reference_columns(target, base, languages, reference)
    weights_MxL, limits_M = _linear(target, N, U, written, chosen)
    return Demands(languages=tuple(languages), weights=weights_MxL, limits=limits_M)


def _linear(
    target: Target,
    nats: Float[np.ndarray, "... L"],
    lost: Float[np.ndarray, "... L"],
    written: Float[np.ndarray, "... L"],
    reference: list[int],
) -> tuple[Float[np.ndarray, "M L"], Float[np.ndarray, "... M"]]:
    """Weights and limits of the demands: weights @ (damage / nats) must not exceed limits."""
    each = np.eye(nats.shape[-1])
    weights, limits = [], []
    if target.share is not None:
        weights.append(each)
        limits.append(target.share * lost / nats)
    if target.relative is not None:
        weights.append(each)
        limits.append(np.full(nats.shape, target.relative))
    if target.disparity is not None:
        weights.append(each - target.disparity * each[reference].mean(axis=0))
        limits.append(np.zeros(nats.shape))
    if target.bits_per_byte is not None:
        weights.append(each)
        limits.append(target.bits_per_byte * math.log(2) * written / nats - 1)
    return np.concatenate(weights), np.concatenate(limits, axis=-1)


def _reference_columns(
    target: Target, base: Evaluation, languages: list[str], reference: Sequence[str] | None
) -> list[int]:
    if target.disparity is None:
        return []
    return [languages.index(name) for name in reference_languages(base, reference)]


def _columns(values: dict[str, np.ndarray], languages: list[str]) -> Float[np.ndarray, "S L"]:
    return np.stack([values[name] for name in languages], axis=1).astype(np.float64)
