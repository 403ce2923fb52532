"""The command line, `jaxprotect <command>`: options in, functions called.

Heavy imports happen inside the commands, so that `--help` is quick.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxprotect.errors import InputError
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.search import Search

Split = Literal["select", "tune", "test", "all"]
Flat = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class Census:
    """Count a model's parameters per component, layer and head, without loading weights.

    Args:
        model: `reference`, a seed model's hub id (needs no network), a Hugging Face folder, or
            another hub id.
        revision: commit, branch or tag of a hub id.
        layers: also print every layer.
        brief: also compare with the figures of the study behind this project (GPT-2).
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    layers: bool = False
    brief: bool = False
    json: bool = False

    def run(self) -> None:
        """Print the census."""
        from jaxprotect.models.census import brief_comparison, census_of
        from jaxprotect.runs.tables import print_brief, print_census

        found = census_of(self.model, revision=self.revision)
        brief = brief_comparison() if self.brief else []
        if self.json:
            counts = {"name": found.name, "rows": found.rows(), "eligible": found.eligible}
            _print_json(counts | ({"brief": brief} if brief else {}))
            return
        print_census(found, layers=self.layers)
        if brief:
            print_brief(brief)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model in every language; with --quantize, what quantization costs each.

    Args:
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to measure; all by default.
        split: sentences to measure on.
        start: `prefix` scores every token after a start token; `shift` is the seed protocol's.
        quantize: also quantize, and report the damage.
        protect: share of the eligible weights to keep, largest |w| first (with --quantize).
        spec: the quantizer (with --quantize).
        reference: languages whose mean relative damage the disparity divides by.
        draws: bootstrap draws.
        batch_tokens: most tokens of one batch.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    split: Split = "test"
    start: Literal["prefix", "shift"] = "prefix"
    quantize: bool = False
    protect: float = 0.0
    spec: Annotated[QuantSpec, Flat] = QuantSpec()
    reference: tuple[str, ...] | None = None
    draws: int = 10_000
    batch_tokens: int = 4096
    json: bool = False

    def run(self) -> None:
        """Evaluate and print."""
        from jaxprotect.evaluation.disparity import disparity
        from jaxprotect.evaluation.evaluate import evaluate
        from jaxprotect.evaluation.rates import language_rates
        from jaxprotect.evaluation.texts import load_texts
        from jaxprotect.models.hub import load_model
        from jaxprotect.quantization.quantize import quantize
        from jaxprotect.runs.tables import print_damages, print_evaluation
        from jaxprotect.selection import masks

        split = None if self.split == "all" else self.split
        texts = load_texts(self.texts, languages=self.languages, split=split)
        model = load_model(self.model, revision=self.revision)
        options: dict[str, Any] = {"start": self.start, "batch_tokens": self.batch_tokens}
        base = evaluate(model, texts, **options)
        if not self.quantize:
            rows = language_rates(base, draws=self.draws)
            _print_json(rows) if self.json else print_evaluation(rows)
            return
        mask = masks.by_magnitude(model.params, fraction=self.protect, eligible=self.spec.eligible)
        params = quantize(model.params, mask, self.spec, model.config)
        quantized = evaluate(model, texts, params, **options)
        result = disparity(base, quantized, reference=self.reference, draws=self.draws)
        if self.json:
            _print_json({"summary": result.summary(), "languages": result.rows()})
        else:
            print_damages(result, f"{self.spec.label}, {100 * self.protect:g} % protected")


@dataclass(frozen=True, kw_only=True)
class MinimalSet:
    """Find the smallest set of weights that keeps every language within a target.

    Scores come from the select sentences, sizes are tried on tune, the result is measured once on
    test. At least one of --share, --relative, --disparity, --bits-per-byte says what is enough.

    Args:
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to hold to the target; all by default.
        share: largest damage, as a share of the same language's unprotected damage.
        relative: largest damage, relative to the original nats.
        disparity: largest relative damage over the mean of the reference languages.
        bits_per_byte: most bits per byte after quantization.
        spec: the quantizer.
        search: criterion and precision.
        reference: languages whose mean the disparity divides by.
        out: folder of the search; the same command continues it.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    share: float | None = None
    relative: float | None = None
    disparity: float | None = None
    bits_per_byte: float | None = None
    spec: Annotated[QuantSpec, Flat] = QuantSpec(protected_dtype="float16")
    search: Annotated[Search, Flat] = Search()
    reference: tuple[str, ...] | None = None
    out: Path = Path("runs/minimal-set")
    json: bool = False

    def run(self) -> None:
        """Search, write the folder, print what was found."""
        from jaxprotect.evaluation.texts import SPLITS, load_texts
        from jaxprotect.models.hub import load_model
        from jaxprotect.runs.minimal_run import find_minimal_set
        from jaxprotect.runs.tables import print_minimal_set
        from jaxprotect.selection.targets import Target

        target = Target(
            share=self.share,
            relative=self.relative,
            disparity=self.disparity,
            bits_per_byte=self.bits_per_byte,
        )
        texts = {s: load_texts(self.texts, languages=self.languages, split=s) for s in SPLITS}
        model = load_model(self.model, revision=self.revision)
        made = find_minimal_set(
            model,
            texts,
            self.spec,
            target,
            out=self.out,
            search=self.search,
            reference=self.reference,
        )
        if self.json:
            _print_json({"summary": made.summary, "curve": made.curve, "languages": made.damages})
        else:
            print_minimal_set(made.summary, made.curve, str(self.out))


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report again, or one page that compares several runs.

    Args:
        runs: run folders.
        out: the page to write for several runs.
        json: print the summaries as JSON too.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    json: bool = False

    def run(self) -> None:
        """Write the page and say where it is."""
        from jaxprotect.runs.report import write_comparison, write_report
        from jaxprotect.runs.results import read_run
        from jaxprotect.runs.summary import write_summary

        if not self.runs:
            raise InputError("`runs` is empty; give at least one run folder")
        opened = [read_run(folder) for folder in self.runs]
        summaries = [write_summary(run) for run in opened]
        if len(opened) == 1:
            path = write_report(opened[0], summaries[0])
        else:
            path = write_comparison(opened, self.out)
        _print_json({"report": str(path), "runs": summaries}) if self.json else print(path)


Command = (
    Annotated[Census, tyro.conf.subcommand("census")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[MinimalSet, tyro.conf.subcommand("minimal-set")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `jaxprotect` command; bad input is one line and exit code 2."""
    try:
        command = tyro.cli(
            Command,  # type: ignore[arg-type]
            prog="jaxprotect",
            args=arguments,
            description="Which weights must stay in high precision, and what keeping them costs.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        command.run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
