"""How often the package is right about damages that are known: `python -m tests.trust.measures`.

Prints one JSON line per measurement; with `--figure PATH` draws the power instead.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaxprotect.evaluation.bootstrap import Estimate, percentile_interval, simultaneous_interval
from jaxprotect.evaluation.disparity import compare
from jaxprotect.evaluation.power import power_curve, sentences_needed
from jaxprotect.runs.power_figure import power_figure
from tests.trust.simulation import DRAWS, EQUAL, Population, evaluation, studies

SIZES = (0.005, 0.01, 0.02, 0.05)
COUNTS = (10, 14, 20, 28, 40, 57, 80, 113, 160, 226, 320, 453, 640)
LOSSES = Population(damages=(0.0, *SIZES))


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A mean over replications.

    Args:
        value: the mean.
        error: its Monte Carlo standard error.
        replications: how many.
    """

    value: float
    error: float
    replications: int


def rate(values: Sequence[float]) -> Rate:
    """The mean of one number per replication."""
    error = float(np.std(values) / np.sqrt(len(values)))
    return Rate(value=float(np.mean(values)), error=error, replications=len(values))


def holds(estimate: Estimate, truth: float) -> bool:
    """Whether an interval has the truth."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def coverage(
    population: Population, sentences: int, replications: int, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Rate]:
    """Shares of replications in which intervals have the truth, and of false and wrong claims.

    Args:
        population: what is true.
        sentences: S of each replication.
        replications: how many samples of sentences.
        draws: of each bootstrap.
        seed: of everything.

    Returns:
        By name; `plain` are the same draws without regard to the number of sentences. A ratio
        that is not defined counts as held, and separately as `ratio undefined`.
    """
    truth = np.array(population.damages)
    nats = truth * population.mean_nats
    reference = float(truth[: population.reference].mean())
    found: dict[str, list[float]] = defaultdict(list)
    for study in studies(population, sentences, replications, draws=draws, seed=seed):
        result = study.result
        records = list(result.languages.values())
        each = {
            "relative": [holds(r.relative, t) for r, t in zip(records, truth, strict=True)],
            "damage": [holds(r.damage, t) for r, t in zip(records, nats, strict=True)],
        }
        plain_low, plain_high = percentile_interval(study.samples)
        each["relative plain"] = list((plain_low <= truth) & (truth <= plain_high))
        low, high = simultaneous_interval(study.relative, study.samples, sentences=sentences)
        uppers = np.array([record.relative_upper for record in records])
        ratio = result.ratio
        claims = {
            "all at once": bool(((low <= truth) & (truth <= high)).all()),
            "upper bounds at once": bool((truth <= uppers).all()),
            "reference mean": holds(result.reference_relative, reference),
            "worst relative": holds(result.worst_relative, truth.max()),
            "worst damage": holds(result.worst_damage, nats.max()),
            "gap": holds(result.gap, truth.max() - truth.min()),
            "ratio": ratio.value is None or holds(ratio, population.ratio),
            "log ratio": ratio.value is None
            or holds(result.abs_log_ratio, abs(np.log(population.ratio))),
            "ratio undefined": ratio.value is None,
            "ratio above 1": ratio.value is not None and ratio.low > 1,
            "gap above 0": result.gap.low > 0,
        }
        for name, hits in each.items():
            found[name].append(float(np.mean(hits)))
        for name, hit in claims.items():
            found[name].append(float(hit))
    return {name: rate(values) for name, values in found.items()}


def winners(
    replications: int,
    *,
    variants: int = 50,
    sentences: int = 200,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Rate]:
    """Gains of the best of many variants that are all alike, over one more of the kind.

    The best is the one of least worst relative damage on `tune`, as in a search.

    Returns:
        Means of the gains in worst relative damage on `tune` and on `test`, each with how often
        the interval of `compare` has 0; and how often those of single languages do on `test`.
    """
    population = Population()
    generator = np.random.default_rng(seed)
    found: dict[str, list[float]] = defaultdict(list)
    for replication in range(replications):
        best = None
        for split in ("tune", "test"):
            nats, added = population.draw(generator, sentences, variants=variants + 1)
            if best is None:
                relative = added[1:].sum(axis=1) / nats.sum(axis=0)
                best = 1 + int(relative.max(axis=1).argmin())
            base, plain, chosen = (
                evaluation(nats + more, population.languages)
                for more in (np.zeros_like(nats), added[0], added[best])
            )
            against = compare(base, plain, chosen, draws=draws, seed=replication)
            gain = against.worst_relative
            assert gain.value is not None
            found[f"{split} gain"].append(-gain.value)
            found[f"{split} interval has 0"].append(float(holds(gain, 0)))
            languages = [holds(of, 0) for of in against.relative.values()]
            found[f"{split} languages' intervals have 0"].append(float(np.mean(languages)))
    return {name: rate(values) for name, values in found.items()}


def power(
    replications: int,
    *,
    counts: Sequence[int] = COUNTS,
    draws: int = DRAWS,
    population: Population = LOSSES,
) -> list[dict[str, float]]:
    """Simulated and planned power of telling a damage from none; a damage of 0 is a false alarm.

    Returns:
        One row per damage and number of sentences: `told` (share of replications whose interval
        lies above 0), its `error`, and the `planned` power.
    """
    nats, added = population.draw(np.random.default_rng(1), 20_000)
    base = evaluation(nats, population.languages)
    quantized = evaluation(nats + added[0], population.languages)
    rows = []
    for count in counts:
        told: dict[str, list[float]] = defaultdict(list)
        for study in studies(population, count, replications, draws=draws):
            for name, record in study.result.languages.items():
                assert record.relative.low is not None
                told[name].append(float(record.relative.low > 0))
        for name, size in zip(population.languages, population.damages, strict=True):
            planned = (
                float(power_curve(base, quantized, [count], damage=size)[name][0])
                if size
                else 0.025
            )
            of = rate(told[name])
            rows.append(
                {"damage": size, "sentences": count, "told": of.value, "planned": planned}
                | {"error": of.error, "replications": replications}
            )
    return rows


def needed() -> list[dict[str, float]]:
    """Sentences needed for a power of 80 %, by damage and by disparity."""
    population = Population(damages=(*SIZES, 0.02, 0.02, 0.02, 0.02), reference=1)
    nats, added = population.draw(np.random.default_rng(1), 20_000)
    base = evaluation(nats, population.languages)
    quantized = evaluation(nats + added[0], population.languages)
    rows = [
        {"damage": size, "needed": sentences_needed(base, quantized, damage=size)[name]}
        for name, size in zip(population.languages, SIZES, strict=False)
    ]
    for size in (1.25, 1.5, 2.0):
        # Languages that lose 2 % each, but the last, which loses so many times as much.
        unequal = Population(damages=(*(0.02,) * 7, 0.02 * size))
        nats, added = unequal.draw(np.random.default_rng(2), 20_000)
        base = evaluation(nats, unequal.languages)
        quantized = evaluation(nats + added[0], unequal.languages)
        of = sentences_needed(base, quantized, disparity=size, reference=unequal.languages[:2])
        rows.append({"disparity": size, "needed": of[unequal.languages[-1]]})
    return rows


def measurements(replications: int) -> Iterator[dict[str, object]]:
    """Everything, one row at a time."""
    near = Population(damages=(0.002, *(0.02,) * 7), reference=1)
    populations = {"unequal": Population(), "equal": Population(damages=EQUAL), "near 0": near}
    for label, population in populations.items():
        for sentences in (40, 100, 300, 1000):
            for name, of in coverage(population, sentences, replications).items():
                yield {"population": label, "sentences": sentences, "of": name, **asdict(of)}
    for name, of in winners(replications // 2).items():
        yield {"population": "winners", "sentences": 200, "of": name, **asdict(of)}
    yield from power(replications)
    yield from needed()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="rows as JSON lines (the default)")
    parser.add_argument("--figure", type=Path, help="draw the power there")
    options = parser.parse_args()
    if options.figure:
        power_figure(options.figure, [r for r in power(options.replications) if r["damage"]])
        return
    for row in measurements(options.replications):
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
