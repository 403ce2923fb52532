"""The quickstart: Exp-010 to Exp-014 on the shipped model and texts, in one run.

    make quickstart        (or: python -m experiments.quickstart)

Question: which parts of a small multilingual model are worth keeping in high precision, and does it
matter which language one asks? Leaves tables, figures and a report in `runs/quickstart`.
Hardware and runtime: 2 CPU cores, 4 GiB, under 3 minutes.
Expected: the tables in the README.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from experiments import exp_010, exp_011, exp_012, exp_013, exp_014
from experiments.command_line import main
from experiments.common import Setup, run_experiments
from experiments.interventions import Variants
from jaxprotect.models.model import Model
from jaxprotect.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """All five experiments.

    Args:
        setup: model, texts, protocol, quantizer and output folder.
        random_seeds: random masks of equal count per fraction of Exp-010.
        fresh: forget an earlier run in the folder instead of resuming it.
    """

    setup: Setup = Setup(out=Path("runs/quickstart"))
    random_seeds: int = 2
    fresh: bool = False


def variants(config: Config, model: Model) -> dict[str, Variants]:
    """Experiment -> its variants; those that experiments share are measured once."""
    setup = config.setup
    magnitude = exp_010.Config(setup=setup, random_seeds=config.random_seeds)
    return {
        "exp_010": exp_010.variants(magnitude, model),
        "exp_011": exp_011.variants(exp_011.Config(setup=setup), model),
        "exp_012": exp_012.variants(exp_012.Config(setup=setup), model),
        "exp_013": exp_013.variants(exp_013.Config(setup=setup), model),
        "exp_014": exp_014.variants(exp_014.Config(setup=setup), model),
    }


def run(config: Config) -> Run:
    """Measure every variant and write tables, figures and report."""
    out = config.setup.out or Path("runs/quickstart")
    if config.fresh and (out / "manifest.json").exists():
        shutil.rmtree(out)
    setup = replace(config.setup, out=out)
    return run_experiments(setup, lambda model: variants(replace(config, setup=setup), model), out)


if __name__ == "__main__":
    main(Config, run)
