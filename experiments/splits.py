"""The three splits of an experiment's texts: as they come, or drawn anew."""

import numpy as np

from experiments.common import Setup
from jaxprotect.evaluation.texts import SPLITS, Texts, load_texts


def load_splits(setup: Setup, seed: int = 0) -> dict[str, Texts]:
    """Select, tune and test sentences, disjoint.

    Args:
        setup: the texts and languages.
        seed: 0 for the texts' own splits; another number deals all their sentences anew, as many
            to each split.

    Returns:
        Split -> texts.
    """
    own = {
        split: load_texts(setup.texts, languages=setup.languages, split=split) for split in SPLITS
    }
    if seed == 0:
        return own
    everything = load_texts(setup.texts, languages=setup.languages)
    where = {line: position for position, line in enumerate(everything.ids)}
    used = [where[line] for texts in own.values() for line in texts.ids]
    dealt = np.random.default_rng(seed).permutation(used)
    splits, start = {}, 0
    for split, texts in own.items():
        size = len(texts.ids)
        splits[split] = everything.take(sorted(int(i) for i in dealt[start : start + size]))
        start += size
    return splits
