"""Exp-014, embeddings: tokens, positions, both.

    python -m experiments.exp_014 [--model gpt2 --texts DIR] [--protocol seed]

Question: are the embeddings critical, as the original study held, and which of them? A tied head
is the token embedding, counted and quantized once. Models without a position table have the token
embedding alone.
Hardware and runtime: reference model, 2 CPU cores, under 1 minute.
Expected: the token embedding helps in proportion to its share of the weights.
"""

from dataclasses import dataclass

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, components, nothing
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Embeddings.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
    """

    setup: Setup = Setup()


def variants(config: Config, model: Model) -> Variants:
    """Unprotected, the token embedding, the position embedding, both."""
    chosen = [("token_embedding",)]
    if model.config.positions == "learned":
        chosen += [("position_embedding",), ("token_embedding", "position_embedding")]
    return [nothing(config.setup), *(components(config.setup, names) for names in chosen)]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_014", config, variants)


if __name__ == "__main__":
    main(Config, run)
