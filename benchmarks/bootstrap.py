"""The paired bootstrap, against a loop over draws in NumPy."""

from typing import Any

import numpy as np

from benchmarks.rows import Row, bounded, speedup
from benchmarks.shapes import Options
from benchmarks.timing import interleaved
from jaxprotect.evaluation.bootstrap import resampled_sums


def run(options: Options) -> list[Row]:
    """25 languages, 50 variants, 1,000 sentences, 10,000 draws."""
    languages, variants, sentences, draws = (25, 50, 1000, 10_000)
    if options.small:
        variants, sentences, draws = 3, 40, 100
    generator = np.random.default_rng(0)
    nats = generator.gamma(20.0, 2.0, (variants, sentences, languages))

    def ours() -> Any:
        return resampled_sums(nats, draws=draws)

    looped = max(1, draws // 100)

    def loop() -> Any:
        drawn = np.random.default_rng(0)
        sums = np.empty((variants, looped, languages))
        for draw in range(looped):
            taken = drawn.integers(sentences, size=sentences)
            sums[:, draw] = nats[:, taken].sum(axis=1)
        return sums

    np.testing.assert_allclose(
        ours().mean(axis=1), nats.sum(axis=1), rtol=5 / np.sqrt(draws * sentences) + 0.02
    )
    timed = interleaved({"ours": ours, "loop": loop}, repeats=options.repeats)
    name = f"bootstrap, {languages} x {variants} x {sentences} x {draws:,}"
    scale = draws / looped
    ratio = tuple(scale * value for value in timed.ratio("loop", "ours"))
    return [
        bounded(name, "", timed.median("ours"), "s", 2.0),
        speedup(name, f"NumPy loop (timed on {looped} draws)", (ratio[0], ratio[1], ratio[2]), 1.0),
    ]
