"""Exp-009, plain quantization: what does each quantizer cost each language, nothing protected?

    python -m experiments.exp_009 [--model gpt2] --texts DIR --split all

Question: before anything is protected, is there a disparity between languages at all, and at which
bit width and granularity?
Hardware and runtime: reference model, 2 CPU cores: 10 s on the shipped test sentences, about 2
minutes per quantizer on 1,000 sentences in 25 languages.
Expected: see the README; nothing to speak of at 8 bits, small at 4, large at 2.
"""

from dataclasses import dataclass, replace

from experiments.command_line import main
from experiments.common import Setup, run_experiment
from experiments.interventions import Variants, nothing
from jaxprotect.errors import refuse_unknown
from jaxprotect.models.model import Model
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.results import Run

QUANTIZERS = {
    "int8-channel": QuantSpec(bits=8),
    "int4-tensor": QuantSpec(granularity="tensor"),
    "int4-channel": QuantSpec(),
    "int4-group64": QuantSpec(granularity="group"),
    "int3-channel": QuantSpec(bits=3),
    "int3-group64": QuantSpec(bits=3, granularity="group"),
    "int2-channel": QuantSpec(bits=2),
    "int2-group64": QuantSpec(bits=2, granularity="group"),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Plain quantization, quantizer by quantizer (the setup's own quantizer is not used).

    Args:
        setup: model, texts and output folder.
        quantizers: which to measure.
    """

    setup: Setup = Setup()
    quantizers: tuple[str, ...] = tuple(QUANTIZERS)

    def __post_init__(self) -> None:
        """Refuse quantizers that are not in the table."""
        refuse_unknown("quantizers", self.quantizers, QUANTIZERS)


def variants(config: Config, model: Model) -> Variants:
    """Each quantizer, nothing protected."""
    plain = nothing(config.setup)
    return [replace(plain, name=name, spec=QUANTIZERS[name]) for name in config.quantizers]


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    return run_experiment("exp_009", config, variants)


if __name__ == "__main__":
    main(Config, run)
