"""How much of a damage is undone, apart from what would have helped the original model too."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxprotect.evaluation.bootstrap import (
    DRAWS,
    LEVEL,
    Estimate,
    percentile_interval,
    resampled_sums,
)
from jaxprotect.evaluation.evaluation import Evaluation, check_base, check_variant


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What one language gets back.

    Args:
        nats: nats per sentence recovered.
        share: of the damage that there was; undefined unless that damage's interval is above 0.
    """

    nats: Estimate
    share: Estimate


def recovery(
    base: Evaluation,
    damaged: Evaluation,
    treated: Evaluation,
    control: Evaluation | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Recovery]:
    """Nats undone in each language: (damaged - base) - (treated - control), with intervals.

    A treatment may help the original model as well, by adaptation to the texts; `control` is the
    original model so treated, and what is left is recovery from the damage alone.

    Args:
        base: the original model's evaluation.
        damaged: the quantized model's.
        treated: the quantized and treated model's.
        control: the original model's, treated the same; `base` by default, which counts
            adaptation as recovery.
        draws: bootstrap draws over sentences.
        seed: of the draws.
        level: coverage of the intervals.

    Returns:
        Language -> what it gets back, with paired intervals (None with one sentence).

    Raises:
        InputError: evaluations of other sentences, languages or texts.
    """
    control = base if control is None else control
    check_base(base)
    for name, other in (("damaged", damaged), ("treated", treated), ("control", control)):
        check_variant(base, other, name)
    languages, sentences = sorted(base.nats), len(base.ids)

    def columns(first: Evaluation, second: Evaluation) -> Float[np.ndarray, "S L"]:
        return np.stack([second.nats[name] - first.nats[name] for name in languages], axis=1)

    lost = columns(base, damaged)
    undone = lost - columns(control, treated)
    if sentences == 1:
        samples = None
    else:
        both = np.concatenate([undone, lost], axis=1)
        samples = np.split(resampled_sums(both, draws=draws, seed=seed), 2, axis=1)
    found = {}
    for i, name in enumerate(languages):
        value, before = float(undone[:, i].sum()), float(lost[:, i].sum())
        if samples is None:
            reason = "one sentence has no interval"
            nats, share = Estimate(value=value, reason=reason), Estimate(value=None, reason=reason)
        else:
            of_undone, of_lost = samples[0][:, i], samples[1][:, i]
            ends = percentile_interval(of_undone / sentences, level, sentences=sentences)
            low, high = map(float, ends)
            nats = Estimate(value=value / sentences, low=low, high=high)
            share = _share(value, before, of_undone, of_lost, level, sentences)
        found[name] = Recovery(nats=nats, share=share)
    return found


def _share(
    undone: float,
    lost: float,
    undone_samples: np.ndarray,
    lost_samples: np.ndarray,
    level: float,
    sentences: int,
) -> Estimate:
    low, _ = percentile_interval(lost_samples, level, sentences=sentences)
    if float(low) <= 0 or lost <= 0 or (lost_samples <= 0).any():
        return Estimate(value=None, reason="undefined: the damage cannot be told from 0")
    ends = percentile_interval(undone_samples / lost_samples, level, sentences=sentences)
    return Estimate(value=undone / lost, low=float(ends[0]), high=float(ends[1]))
