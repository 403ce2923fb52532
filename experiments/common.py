"""What every experiment shares: the setup, the runner, the tables, the command line."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.replication import (
    our_variants,
    print_replication,
    replication_table,
    study_model,
)
from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded, Start
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.evaluation.texts import Texts, load_texts
from jaxprotect.models.hub import load_model
from jaxprotect.models.meshes import on_mesh
from jaxprotect.models.model import Model
from jaxprotect.quantization.spec import SEED_SPEC, QuantSpec
from jaxprotect.runs.report import write_report
from jaxprotect.runs.results import Run, open_run, write_csv
from jaxprotect.runs.summary import print_tables, write_summary
from jaxprotect.runs.sweep import Variant, sweep

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an experiment runs on, and how it measures.

    Args:
        model: a hub id, a Hugging Face folder, or `reference`, the model that ships.
        revision: commit, branch or tag of a hub id.
        mesh: devices, such as data=4,model=2; all of them by default. Another one may continue a
            run.
        texts: a folder of `<language>.txt`, `flores`, or `reference`, the texts that ship.
        languages: languages to measure; all by default.
        split: sentences to measure on.
        protocol: `sound`, or `seed`: the original study's quantizer, scoring and ratios.
        spec: the quantizer (sound protocol; the seed protocol fixes it).
        reference: languages whose mean relative damage the disparity divides by; English,
            German and French where present by default.
        draws: bootstrap draws.
        batch_tokens: most tokens of one batch; another number may continue a run.
        out: folder of the run; `runs/<experiment>` by default.
    """

    model: str = "reference"
    revision: str | None = None
    mesh: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    split: Literal["select", "tune", "test", "all"] = "test"
    protocol: Literal["sound", "seed"] = "sound"
    spec: Annotated[QuantSpec, Flat] = QuantSpec()
    reference: tuple[str, ...] | None = None
    draws: int = 10_000
    batch_tokens: int = 4096
    out: Path | None = None

    @property
    def quantizer(self) -> QuantSpec:
        """The quantizer in force."""
        return SEED_SPEC if self.protocol == "seed" else self.spec

    @property
    def start(self) -> Start:
        """How sentences begin: after a start token, or as the tokenizer gives them."""
        return "shift" if self.protocol == "seed" else "prefix"

    @property
    def ties(self) -> Literal["position", "all"]:
        """Whether masks have exactly k weights, or all ties with the k-th."""
        return "all" if self.protocol == "seed" else "position"


def load_model_of(setup: Setup) -> Model:
    """The model of a setup, on its devices."""
    return on_mesh(load_model(setup.model, revision=setup.revision), setup.mesh)


def load_inputs(setup: Setup) -> tuple[Model, Texts, Encoded]:
    """The model, the texts, and the texts in the model's tokens.

    Raises:
        InputError: the seed protocol with options of another quantizer, or whatever is wrong with
            model and texts.
    """
    if setup.protocol == "seed" and setup.spec not in (QuantSpec(), SEED_SPEC):
        raise InputError(
            f"`protocol` seed fixes the quantizer ({SEED_SPEC.label}, scale from all weights); "
            "leave the quantizer's options out"
        )
    split = None if setup.split == "all" else setup.split
    texts = load_texts(setup.texts, languages=setup.languages, split=split)
    model = load_model_of(setup)
    return model, texts, encode(model, texts, start=setup.start, batch_tokens=setup.batch_tokens)


def manifest(
    setup: Setup, model: Model, texts: Texts, experiments: Mapping[str, list[str]]
) -> dict[str, Any]:
    """What the run is about: enough to know, later, what its numbers are numbers of."""
    config = asdict(setup) | {"spec": asdict(setup.quantizer)}
    del config["out"], config["mesh"]
    return {
        "config": config,
        "model": {
            "name": model.name,
            "revision": model.revision,
            "sha256": model.sha256,
            "architecture": asdict(model.config),
        },
        "texts": {
            "source": texts.source,
            "sha256": texts.sha256,
            "languages": list(texts.languages),
            "ids": list(texts.ids),
        },
        "experiments": dict(experiments),
    }


def run_experiments(
    setup: Setup, plan: Callable[[Model], Mapping[str, list[Variant]]], out: Path
) -> Run:
    """Measure the variants of one or several experiments in one run folder.

    A variant that several experiments share is measured once.

    Args:
        setup: model, texts, protocol.
        plan: model -> experiment name -> its variants.
        out: folder of the run.

    Returns:
        The finished run; tables, figures and report lie in its folder.
    """
    model, texts, encoded = load_inputs(setup)
    experiments = plan(model)
    unique = {v.name: v for variants in experiments.values() for v in variants}
    names = {name: [v.name for v in variants] for name, variants in experiments.items()}
    with open_run(out, manifest(setup, model, texts, names)) as run:
        run = sweep(
            run,
            model,
            encoded,
            list(unique.values()),
            reference=setup.reference,
            draws=setup.draws,
        )
        rows = write_summary(run)
        report = write_report(run, rows)
        studied = study_model(model.config) if setup.protocol == "seed" else None
        replication = replication_table(our_variants(run, texts), model=studied) if studied else []
        if replication:
            write_csv(run.folder / "replication.csv", replication)
    print_tables(run, rows)
    if replication:
        print_replication(replication)
    print(f"report: {report}")
    return run


def run_experiment(name: str, config: Any, variants: Callable[[Any, Model], list[Variant]]) -> Run:
    """Run one experiment into its own folder.

    Args:
        name: such as `exp_010`.
        config: its Config; `config.setup` says on what.
        variants: (config, model) -> what to measure.

    Returns:
        The finished run.
    """
    out = config.setup.out or Path("runs") / name
    return run_experiments(config.setup, lambda model: {name: variants(config, model)}, out)
