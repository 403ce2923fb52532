"""Exp-010, the magnitude curve: how much does protecting the largest weights help each language?

    python -m experiments.exp_010 [--model gpt2 --texts DIR] [--protocol seed]

Question: protect the top 0, 1, 2, 3, 5, 10 and 20 % of the eligible weights by |w|; how does every
language's damage fall, and does magnitude do better than the same number of weights at random?
Hardware and runtime: reference model, 2 CPU cores, under 2 minutes.
Expected: damage falls with the fraction; random controls change nothing.
"""

from dataclasses import dataclass

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, magnitude, nothing, random_control
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """The magnitude curve.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
        fractions: shares of the eligible weights to protect.
        random_seeds: random masks of equal count per fraction.
    """

    setup: Setup = Setup()
    fractions: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
    random_seeds: int = 3


def variants(config: Config, model: Model) -> Variants:
    """Unprotected; each fraction by magnitude; each fraction at random, by seed."""
    controls = [
        random_control(config.setup, fraction, seed)
        for fraction in config.fractions
        for seed in range(config.random_seeds)
    ]
    curve = [magnitude(config.setup, fraction) for fraction in config.fractions]
    return [nothing(config.setup), *curve, *controls]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_010", config, variants)


if __name__ == "__main__":
    main(Config, run)
