"""Paired bootstrap over sentences: resampled sums, and the intervals made from them.

A draw takes S of the S sentences with replacement. Its counts are shared by every language and
every variant, so that what is compared is compared on the same sentences.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from jaxprotect.errors import InputError

DRAWS = 10_000
"""Draws of a reported interval."""

LEVEL = 0.95
"""Coverage of a reported interval."""

COUNTS_AT_ONCE = 2**21
"""Most counts held at a time (16 MiB); more draws are taken in blocks."""

MOST_DRAWS = 1_000_000
"""More would take the memory and time of a model, and change no digit that is printed."""

CENTRAL = 0.6827
"""Share of a normal distribution within one standard deviation."""

TAIL = 1.645
"""Standard deviations above which a twentieth of a normal distribution lies."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its interval; where one is missing, `reason` says why.

    Args:
        value: the number measured on all sentences; None when undefined.
        low: lower end of its interval; None without an interval.
        high: upper end.
        reason: why the value or the interval is missing; empty when nothing is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_row(self, name: str) -> dict[str, float | None]:
        """`{name, name_low, name_high}`, ready for a table or a JSON line."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def bootstrap_counts(
    sentences: int, *, draws: int = DRAWS, seed: int = 0, block: int | None = None
) -> Iterator[Float[np.ndarray, "block S"]]:
    """How often each sentence is taken in each draw, a block of draws at a time.

    Args:
        sentences: S.
        draws: number of draws.
        seed: of the resampling; the same seed gives the same draws, whatever the block, and a
            longer run starts with the draws of a shorter one.
        block: most draws held at a time; by default those of 16 MiB of counts.

    Returns:
        Iterator of [at most block, S] counts in float64; each row sums to S.

    Raises:
        InputError: fewer than 1 sentence or draw, or a negative seed.
    """
    if draws > MOST_DRAWS:
        raise InputError(f"`draws` is {draws}; allowed: 1 to {MOST_DRAWS}")
    for name, value, least in (("sentences", sentences, 1), ("draws", draws, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"`{name}` is {value}; it must be at least {least}")
    block = max(1, COUNTS_AT_ONCE // sentences if block is None else block)
    return _count_blocks(sentences, draws, np.random.default_rng(seed), block)


def _count_blocks(
    sentences: int, draws: int, generator: np.random.Generator, block: int
) -> Iterator[np.ndarray]:
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        taken = generator.integers(sentences, size=(rows, sentences))
        taken += np.arange(rows)[:, None] * sentences
        counts = np.bincount(taken.reshape(-1), minlength=rows * sentences)
        yield counts.reshape(rows, sentences).astype(np.float64)


def resampled_sums(
    values: Float[np.ndarray, "... S M"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    block: int | None = None,
) -> Float[np.ndarray, "... draws M"]:
    """Sums over sentences in each draw: counts [draws, S] @ values [S, M].

    Args:
        values: [..., S, M] one number per sentence and column; leading axes (variants) are
            multiplied one by one, so that a result does not depend on what else is in the batch.
        draws: number of draws.
        seed: see `bootstrap_counts`.
        block: draws multiplied at a time.

    Returns:
        [..., draws, M] sums in float64.

    Raises:
        InputError: see `bootstrap_counts`.
    """
    values = np.ascontiguousarray(values, np.float64)
    *batch, sentences, columns = values.shape
    sums = np.empty((*batch, draws, columns))
    done = 0
    for counts in bootstrap_counts(sentences, draws=draws, seed=seed, block=block):
        sums[..., done : done + len(counts), :] = counts @ values
        done += len(counts)
    return sums


def percentile_interval(
    samples: Float[np.ndarray, "draws ..."], level: float = LEVEL, *, sentences: int | None = None
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Percentile interval: leaves floor((draws - 1) (1 - level) / 2) draws out on each side.

    Its ends are draws themselves, never interpolated, and the interval of -x is minus that of x.

    Args:
        samples: [draws, ...] a statistic in each draw.
        level: coverage, between 0 and 1.
        sentences: S of each draw; with it fewer draws are left out (`expanded_share`).

    Returns:
        The lower and the upper ends.

    Raises:
        InputError: NaN samples, a level outside (0, 1), or too few draws for the level.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    out = _left_out(samples, level, (1 - level) / 2, sentences)
    last = len(samples) - 1
    ordered = np.partition(samples, (out, last - out), axis=0)
    return ordered[out, ...], ordered[last - out, ...]


def expanded_share(share: float, sentences: int) -> float:
    """The share of draws to leave out on one side so that a share of truths is left out.

    The variance of draws is (S - 1) / S of what it should be, and their tails are normal where
    Student's t belongs. At 40 sentences the bound goes from 1.96 to 2.05 standard deviations.

    Args:
        share: of truths.
        sentences: S.

    Returns:
        A smaller share; 0 for a single sentence.

    Source: the expanded percentile interval of Hesterberg, The American Statistician 69 (2015).
    """
    if sentences < 2:
        return 0.0
    return float(ndtr(math.sqrt(sentences / (sentences - 1)) * stdtrit(sentences - 1, share)))


def lower_bound(
    samples: Float[np.ndarray, "draws ..."], level: float = LEVEL, *, sentences: int | None = None
) -> Float[np.ndarray, "..."]:
    """One-sided bound: a share `level` of the draws is not below it; see `percentile_interval`."""
    out = _left_out(samples, level, 1 - level, sentences)
    return np.partition(samples, out, axis=0)[out, ...]


def upper_bound(
    samples: Float[np.ndarray, "draws ..."], level: float = LEVEL, *, sentences: int | None = None
) -> Float[np.ndarray, "..."]:
    """One-sided bound: a share `level` of the draws is not above it; see `percentile_interval`."""
    last = len(samples) - 1
    out = _left_out(samples, level, 1 - level, sentences)
    return np.partition(samples, last - out, axis=0)[last - out, ...]


def simultaneous_upper(
    values: Float[np.ndarray, "L"],
    samples: Float[np.ndarray, "draws L"],
    level: float = LEVEL,
    *,
    sentences: int | None = None,
) -> Float[np.ndarray, "L"]:
    """Upper bounds that hold for all columns at once: value_l + (c + a_l (c^2 + 2)) s_l.

    s_l is half the width of the central 68 % of column l's draws, and c the `level` quantile of
    max_l (sample_l - value_l) / s_l, expanded if `sentences` are given (`expanded_share`). a_l is
    a sixth of the draws' skewness, if positive: a sum that came out low also seems to vary little,
    and one-sided bounds have no other side to make up for it. A few infinite samples do no harm.
    A column with s_l = 0 has its own bound.

    Args:
        values: [L] the estimates.
        samples: [draws, L] the same in each draw; sums over sentences, or nearly so.
        level: probability that all L bounds hold.
        sentences: S of each draw.

    Returns:
        [L] bounds, never below the values.

    Source: max-t of Romano and Wolf, Econometrica 73 (2005); the term in a_l is BCa's to first
    order with z0 = a, as for a mean: Efron, J. Am. Statistical Association 82 (1987).
    """
    return values + _margins(values, samples, level, sentences, skewed=True)


def simultaneous_interval(
    values: Float[np.ndarray, "L"],
    samples: Float[np.ndarray, "draws L"],
    level: float = LEVEL,
    *,
    sentences: int | None = None,
) -> tuple[Float[np.ndarray, "L"], Float[np.ndarray, "L"]]:
    """Intervals that hold for all columns at once, and so for their largest and smallest.

    max_l low_l <= max_l theta_l <= max_l high_l whenever all L intervals hold. The percentile
    interval of the maximum itself has no such guarantee: where many columns are equal, the
    largest of a draw lies above the truth nearly always.

    Args:
        values: [L] the estimates.
        samples: [draws, L] the same statistics in each draw.
        level: probability that all L intervals hold.
        sentences: S of each draw; see `simultaneous_upper`.

    Returns:
        [L] lower and [L] upper ends; the values lie between them.
    """
    one_sided = (1 + level) / 2
    below_L = _margins(-values, -samples, one_sided, sentences)
    return values - below_L, values + _margins(values, samples, one_sided, sentences)


def _margins(
    values: np.ndarray,
    samples: np.ndarray,
    level: float,
    sentences: int | None,
    *,
    skewed: bool = False,
) -> np.ndarray:
    """[L] how far above each value its bound lies."""
    last = len(samples) - 1
    low_L, high_L = percentile_interval(samples, CENTRAL)
    spread_L = (high_L - low_L) / 2
    varies = spread_L > 0
    margins_L = np.zeros_like(spread_L)
    own_L = upper_bound(samples[:, ~varies], level, sentences=sentences)
    margins_L[~varies] = np.maximum(own_L - values[~varies], 0.0)
    if varies.any():
        scaled = (samples - values)[:, varies] / spread_L[varies]
        largest = np.sort(scaled.max(axis=1))
        c = largest[last - _left_out(largest, level, 1 - level)]
        if sentences is not None:
            # A column's own share of draws above c: all of 1 - level where columns move as one.
            alone = float(np.clip((scaled > c).mean(), (1 - level) / scaled.shape[1], 1 - level))
            share = (1 - level) * expanded_share(alone, sentences) / alone
            c = largest[last - math.floor(round(last * share, 6))]
        c = max(0.0, float(c))
        margins_L[varies] = c * spread_L[varies]
        if skewed:
            margins_L[varies] += _accelerations(scaled) * (c * c + 2) * spread_L[varies]
    return margins_L


def _accelerations(scaled: np.ndarray) -> np.ndarray:
    """[L] sixths of the skewness of draws, from quantiles: infinite draws do not matter to them.

    To first order the quantile at z is z + a (z^2 - 1): those at z, 0 and -z give a. No S numbers
    have a skewness above sqrt(S), so that no mean has an a above 1/6.
    """
    last = len(scaled) - 1
    tail, half = math.floor(0.05 * last), last // 2
    ordered = np.partition(scaled, (tail, half, last - tail), axis=0)
    low, middle, high = ordered[tail], ordered[half], ordered[last - tail]
    return np.clip((high + low - 2 * middle) / (high - low) / TAIL, 0, 1 / 6)


def _left_out(samples: np.ndarray, level: float, share: float, sentences: int | None = None) -> int:
    """Draws beyond a bound that leaves `share` of them out; refuses what has no such bound."""
    if not 0 < level < 1:
        raise InputError(f"`level` is {level}; it must be between 0 and 1, both excluded")
    least = math.ceil(round(1 / share, 6))
    if len(samples) < least:
        raise InputError(f"`draws` is {len(samples)}; level {level} needs at least {least}")
    if np.isnan(samples).any():
        raise InputError("`samples` has NaN; a statistic must be a number in every draw")
    if sentences is not None:
        share = expanded_share(share, sentences)
    # Rounded first: (1 - 0.95) / 2 is not 0.025, and a multiple must not fall below itself.
    return math.floor(round((len(samples) - 1) * share, 6))
