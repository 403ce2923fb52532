"""Experiments small enough to be run, killed and run again."""

from pathlib import Path

from experiments import exp_015, exp_016, exp_017, exp_018, exp_019, exp_020, quickstart
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.prefix_learning import PrefixLearning
from jaxprotect.selection.recommendation import Options
from jaxprotect.selection.targets import Target
from tests.trust.children import setup_of

HALVES = QuantSpec(bits=3, protected_dtype="float16")


def run_quickstart(model: str, out: Path) -> None:
    """Exp-010 to Exp-014 in one folder."""
    quickstart.run(quickstart.Config(setup=setup_of(model, out), random_seeds=1))


def run_exp_015(model: str, out: Path) -> None:
    """Two criteria on two splits."""
    setup = setup_of(model, out, HALVES)
    criteria = ("language_guided", "magnitude")
    config = exp_015.Config(
        setup=setup, criteria=criteria, fractions=(0.05,), split_seeds=2, rounds=1
    )
    exp_015.run(config)


def run_exp_016(model: str, out: Path) -> None:
    """Two searches and their comparison."""
    config = exp_016.Config(
        setup=setup_of(model, out),
        target=Target(share=0.5),
        quantizers=("int3-channel",),
        criteria=("language_guided", "magnitude"),
        rounds=1,
        precision=2.0,
        max_fraction=0.9,
    )
    exp_016.run(config)


def run_exp_017(model: str, out: Path) -> None:
    """Every choice within one budget."""
    config = exp_017.Config(
        setup=setup_of(model, out, HALVES), averages=(2.5,), levels=("tensor", "channel"), rounds=1
    )
    exp_017.run(config)


def run_exp_018(model: str, out: Path) -> None:
    """Ranges, learned ranges and error compensation, also by language."""
    config = exp_018.Config(
        setup=setup_of(model, out),
        quantizers=("int3-channel",),
        methods=("mse", "learned_worst", "gptq_mse"),
        matrix_methods=("gptq_mse",),
        steps=2,
    )
    exp_018.run(config)


def run_exp_019(model: str, out: Path) -> None:
    """A chosen and a learned prefix."""
    config = exp_019.Config(
        setup=setup_of(model, out),
        quantizers=("int3-channel",),
        chosen=(1,),
        learned=(2,),
        candidates=1,
        choose_sentences=2,
        learning=PrefixLearning(steps=3, batch_rows=8),
    )
    exp_019.run(config)


def run_exp_020(model: str, out: Path) -> None:
    """Three techniques within one budget."""
    options = Options(
        techniques=("round_to_nearest", "clipped_protection", "cached_prefix"), rounds=1
    )
    config = exp_020.Config(setup=setup_of(model, out), budgets=("int4-channel",), options=options)
    exp_020.run(config)
