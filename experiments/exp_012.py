"""Exp-012, layers: which whole layers must stay in high precision?

    python -m experiments.exp_012 [--model gpt2 --texts DIR] [--protocol seed]

Question: protect each layer alone, and the first with the last; is layer 0 special, as the
original study held?
Hardware and runtime: reference model, 2 CPU cores, under 1 minute.
Expected: layers differ by less than their share of the weights would let one hope.
"""

from dataclasses import dataclass

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, layers, nothing
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whole layers.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
    """

    setup: Setup = Setup()


def variants(config: Config, model: Model) -> Variants:
    """Unprotected, each layer alone, and the first with the last."""
    depth = model.config.layers
    alone = [layers(config.setup, [layer]) for layer in range(depth)]
    ends = [layers(config.setup, [0, depth - 1])] if depth > 1 else []
    return [nothing(config.setup), *alone, *ends]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_012", config, variants)


if __name__ == "__main__":
    main(Config, run)
