"""Seconds of several ways to do one thing, taken in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of every candidate in every round.

    Args:
        seconds: candidate -> seconds, round by round.
    """

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of a candidate."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> tuple[float, float, float]:
        """Median, least and largest ratio of seconds of the same round: > 1 = `fast` is faster."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        ratios = [a / b for a, b in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)


def interleaved(candidates: Mapping[str, Callable[[], Any]], *, repeats: int) -> Timings:
    """Run every candidate once untimed, then all of them in turns.

    In turns, because a shared machine speeds up and slows down over minutes: a ratio is taken
    within a round.

    Args:
        candidates: name -> what to time; JAX results are waited for.
        repeats: timed rounds.

    Returns:
        The timings.
    """
    for run in candidates.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - begin)
    return Timings(seconds=seconds)
