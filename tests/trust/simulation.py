"""Made-up parallel texts whose true damages are known, and what the package says of them.

A sentence is long or short in all languages at once; its nats are log-normal, and so are the
factors of its damage, so that right tails are heavy. Spreads are those of the shipped model at 4
bits: 0.3 in log nats, 0.9 correlation between languages, damages that vary by 2 % of the nats
from one sentence to another; tails are heavier than there (skewness 2, not 0.3).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxprotect.evaluation import disparity as module
from jaxprotect.evaluation.bootstrap import resampled_sums
from jaxprotect.evaluation.damage import Disparity
from jaxprotect.evaluation.evaluation import Evaluation

EQUAL = (0.02,) * 8
UNEQUAL = (0.01, 0.015, 0.02, 0.02, 0.025, 0.03, 0.04, 0.05)
DRAWS = 2000
AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Population:
    """Sentences without end, in L languages.

    Args:
        damages: true relative damage of each language, E[nats added] / E[nats].
        noise: standard deviation of what a sentence's damage has of its own, as a share of the
            mean nats; its mean is 0.
        spread: standard deviation of log nats.
        shared: share of that variance that a sentence has in all languages alike.
        tail: standard deviation of the log of the factors of damages.
        growth: damages rise with this power of the nats. Not 1: the ratio of sums is then another
            number than the mean of ratios.
        reference: how many of the first languages are the yardstick.
    """

    damages: tuple[float, ...] = UNEQUAL
    noise: float = 0.02
    spread: float = 0.35
    shared: float = 0.85
    tail: float = 0.6
    growth: float = 0.7
    reference: int = 2

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in sorted order."""
        return tuple(f"l{index:02d}" for index in range(len(self.damages)))

    @property
    def mean_nats(self) -> Float[np.ndarray, "L"]:
        """Nats per sentence; a language of many tokens has more."""
        return 150.0 + 15.0 * np.arange(len(self.damages))

    @property
    def ratio(self) -> float:
        """True disparity."""
        return max(self.damages) / float(np.mean(self.damages[: self.reference]))

    def draw(
        self, generator: np.random.Generator, *shape: int, variants: int = 1
    ) -> tuple[Float[np.ndarray, "... S L"], Float[np.ndarray, "variants ... S L"]]:
        """Nats of the original, and nats that each variant adds.

        With x = nats / their mean, log-normal, E[x^p] = exp(p (p - 1) spread^2 / 2); divided by
        that, x^growth has mean 1 and the relative damage is `damages` exactly.
        """
        count = len(self.damages)
        common = generator.normal(size=(*shape, 1))
        own = generator.normal(size=(*shape, count))
        z = math.sqrt(self.shared) * common + math.sqrt(1 - self.shared) * own
        x = np.exp(self.spread * z - self.spread**2 / 2)
        grown = x**self.growth / math.exp(self.growth * (self.growth - 1) * self.spread**2 / 2)
        factors = np.exp(self.tail * generator.normal(size=(variants, *shape, count)))
        factors /= math.exp(self.tail**2 / 2)
        noises = np.exp(self.tail * generator.normal(size=(variants, *shape, count)))
        noises = noises / math.exp(self.tail**2 / 2) - 1
        noises *= self.noise / math.sqrt(math.expm1(self.tail**2))
        added = np.array(self.damages) * grown * factors + np.sqrt(x) * noises
        return x * self.mean_nats, added * self.mean_nats


def evaluation(nats: Float[np.ndarray, "S L"], languages: tuple[str, ...]) -> Evaluation:
    """An evaluation of such sentences; token counts differ between languages."""
    tokens = {
        name: np.full(len(nats), 30 + 4 * index, dtype=np.int64)
        for index, name in enumerate(languages)
    }
    return Evaluation(
        nats={name: np.ascontiguousarray(nats[:, i]) for i, name in enumerate(languages)},
        tokens=tokens,
        bytes=tokens,
        characters=tokens,
        ids=tuple(range(len(nats))),
        vocab_size=50_000,
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    """One replication.

    Args:
        result: the package's record.
        relative: [L] relative damages.
        samples: [draws, L] the same in each draw.
    """

    result: Disparity
    relative: Float[np.ndarray, "L"]
    samples: Float[np.ndarray, "draws L"]


def studies(
    population: Population, sentences: int, replications: int, *, draws: int = DRAWS, seed: int = 0
) -> Iterator[Study]:
    """The package's `disparity` of one sample of sentences after another.

    `AT_ONCE` samples share the counts of the bootstrap, which take most of the time.
    """
    generator = np.random.default_rng([seed, sentences])
    languages, count = population.languages, len(population.damages)
    reference = languages[: population.reference]
    for start in range(0, replications, AT_ONCE):
        here = min(AT_ONCE, replications - start)
        nats, added = population.draw(generator, here, sentences)
        both = np.concatenate([nats, added[0]], axis=-1)
        sums = resampled_sums(both, draws=draws, seed=seed + start)
        for index in range(here):
            base = evaluation(nats[index], languages)
            quantized = evaluation(nats[index] + added[0, index], languages)
            of_base, of_added = sums[index, :, :count], sums[index, :, count:]
            result = module._disparity(base, quantized, reference, of_base, of_added, 0.95, draws)
            yield Study(
                result=result,
                relative=added[0, index].sum(axis=0) / nats[index].sum(axis=0),
                samples=of_added / of_base,
            )
