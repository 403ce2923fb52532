"""Exp-011, the minimum threshold: is there an optimum below 5 % of protected weights?

    python -m experiments.exp_011 [--model gpt2 --texts DIR] [--protocol seed]

Question: the original study saw the best disparity at 5 % by magnitude, on one sentence per
language. With a fine sweep below 5 %, parallel text and intervals, where does the curve bend?
Hardware and runtime: reference model, 2 CPU cores, under 1 minute.
Expected: a smooth fall of the damage, without an optimum that the intervals would support.
"""

from dataclasses import dataclass

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, magnitude, nothing
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run

FINE = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The fine magnitude sweep.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
        fractions: shares of the eligible weights to protect.
    """

    setup: Setup = Setup()
    fractions: tuple[float, ...] = FINE


def variants(config: Config, model: Model) -> Variants:
    """Unprotected, and each fraction by magnitude."""
    curve = [magnitude(config.setup, fraction) for fraction in config.fractions]
    return [nothing(config.setup), *curve]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_011", config, variants)


if __name__ == "__main__":
    main(Config, run)
