"""Exp-013, attention: all of it, layer by layer, head by head.

    python -m experiments.exp_013 [--model gpt2 --texts DIR] [--protocol seed]

Question: how much of every language's damage comes from the attention weights, and from which
layer or head?
Hardware and runtime: reference model, 2 CPU cores, under 2 minutes; GPT-2 has 157 variants.
Expected: no single head carries a language.
"""

from dataclasses import dataclass

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, attention, heads, nothing
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Attention.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
        single_heads: also protect every head alone.
    """

    setup: Setup = Setup()
    single_heads: bool = True


def variants(config: Config, model: Model) -> Variants:
    """Unprotected, all attention, each layer's attention, each head."""
    setup, depth = config.setup, model.config.layers
    by_layer = [attention(setup, layer) for layer in range(depth)]
    single = [
        heads(setup, layer, head) for layer in range(depth) for head in range(model.config.heads)
    ]
    return [
        nothing(setup),
        attention(setup),
        *by_layer,
        *(single if config.single_heads else []),
    ]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_013", config, variants)


if __name__ == "__main__":
    main(Config, run)
