"""Exp-016, the minimal set: how few weights are enough, by criterion, and how few can be enough?

    python -m experiments.exp_016 [--share 0.5] [--quantizers int4-tensor int3-channel]
    python -m experiments.exp_016 --texts DIR --criteria language_guided fisher_delta magnitude

Question: for each quantizer, the smallest set after which every language keeps at most a share of
its unprotected damage, with 95 % confidence for all languages at once; and the surrogate's lower
bound on the size of any such set. And how many bytes the language-guided set needs over those of
the others, for the same target, with a bootstrap interval.
Hardware and runtime: reference model and shipped texts, 2 CPU cores: one to two minutes per
quantizer and criterion, four for the language-guided one; on 300 tune sentences in 25 languages ten
times that.
Expected: see the README; the finer the scales, the larger the set for the same share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.byte_ratios import byte_ratios, print_byte_ratios
from experiments.command_line import main
from experiments.common import Setup, load_model_of
from experiments.exp_009 import QUANTIZERS
from experiments.exp_016_page import write_minimal_sets
from experiments.splits import load_splits
from jaxprotect.errors import refuse_unknown
from jaxprotect.models.model import Model
from jaxprotect.runs.minimal_figure import minimal_set_dots
from jaxprotect.runs.minimal_run import find_minimal_set
from jaxprotect.runs.results import write_csv
from jaxprotect.runs.tables import console, table
from jaxprotect.selection.criteria import CRITERIA, GUIDED
from jaxprotect.selection.search import Search
from jaxprotect.selection.targets import Target

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Minimal sets of several quantizers by several criteria.

    Args:
        setup: model, texts and output folder (its quantizer and split are not used).
        target: what is enough.
        quantizers: of those of Exp-009.
        criteria: how weights are ranked.
        precision: stop when the found size is at most this multiple of a size that fails.
        max_fraction: try no larger share of the weights.
        rounds: candidates per size of the language-guided choice.
    """

    setup: Setup = Setup()
    target: Annotated[Target, Flat] = Target(share=0.5)
    quantizers: tuple[str, ...] = (
        "int4-tensor",
        "int4-channel",
        "int4-group64",
        "int3-channel",
        "int3-group64",
        "int2-channel",
        "int2-group64",
    )
    criteria: tuple[str, ...] = (
        "language_guided",
        "expected_gain",
        "fisher_delta",
        "tacq",
        "magnitude",
        "random",
    )
    precision: float = 1.2
    max_fraction: float = 0.5
    rounds: int = 3

    def __post_init__(self) -> None:
        """Refuse quantizers and criteria that do not exist."""
        for option, given, allowed in (
            ("quantizers", self.quantizers, tuple(QUANTIZERS)),
            ("criteria", self.criteria, CRITERIA),
        ):
            refuse_unknown(option, given, allowed)


def run(config: Config) -> list[dict[str, Any]]:
    """Every search, each in a folder of its own, and one table of all."""
    setup = config.setup
    out = setup.out or Path("runs") / "exp_016"
    model, texts = load_model_of(setup), load_splits(setup)
    rows, ratios = [], []
    for quantizer in config.quantizers:
        folders = {}
        for criterion in config.criteria:
            folders[criterion] = out / f"{quantizer}--{criterion}"
            made = _search(config, model, texts, quantizer, criterion, out)
            rows.append({"name": quantizer} | made)
            _share_bound([row for row in rows if row["name"] == quantizer])
            write_csv(out / "minimal_sets.csv", rows)
        if GUIDED in folders and len(folders) > 1:
            ratios += [
                {"quantizer": rows[-1]["quantizer"]} | row
                for row in byte_ratios(
                    folders, config.target, reference=setup.reference, draws=setup.draws
                )
            ]
            write_csv(out / "byte_ratios.csv", ratios)
    dots = minimal_set_dots(out / "minimal_sets.png", rows, target=config.target.label)
    print_minimal_sets(rows, config.target.label)
    if ratios:
        print_byte_ratios(ratios, config.target.label)
    page = write_minimal_sets(out / "report.html", model.name, config.target, rows, ratios, dots)
    print(f"report: {page}")
    return rows


def _share_bound(rows: list[dict[str, Any]]) -> None:
    """In place: the guided set's bound is the bound of every criterion under that quantizer."""
    bounds = [row["lower_bound"] for row in rows if row["criterion"] == GUIDED]
    for row in rows:
        row["lower_bound"] = bounds[0] if bounds else row["lower_bound"]


def _search(
    config: Config,
    model: Model,
    texts: Mapping[str, Any],
    quantizer: str,
    criterion: str,
    out: Path,
) -> dict[str, Any]:
    search = Search(
        criterion=criterion,
        precision=config.precision,
        max_fraction=config.max_fraction,
        rounds=config.rounds,
        draws=config.setup.draws,
    )
    made = find_minimal_set(
        model,
        dict(texts),
        # Two bytes for each protected weight: what a file would hold, and exact for fp16 models.
        replace(QUANTIZERS[quantizer], protected_dtype="float16"),
        config.target,
        out=out / f"{quantizer}--{criterion}",
        search=search,
        reference=config.setup.reference,
        statistics=out / "statistics",
        batch_tokens=config.setup.batch_tokens,
    )
    return dict(made.summary)


def print_minimal_sets(rows: list[dict[str, Any]], target: str) -> None:
    """Print one line per quantizer and criterion.

    Args:
        rows: summaries of the searches.
        target: what was asked.
    """
    numbers = ["weights", "share", "KiB more", "bound", "set / bound"]
    numbers += ["worst on test, %", "unprotected, %", "met"]
    made = table(f"exp_016: {target}", ["quantizer", "criterion"], numbers)
    for row in rows:
        found = row["found"]
        bound = row["lower_bound"]
        made.add_row(
            row["quantizer"],
            row["criterion"],
            "not reached" if found is None else f"{found:,}",
            "" if found is None else f"{100 * row['fraction']:.3f} %",
            "" if found is None else f"{row['overhead_bytes'] / 1024:.1f}",
            "" if bound is None else f"{bound:,.0f}",
            f"{found / bound:.2f}" if found and bound else "",
            f"{100 * row['test_worst_relative']:.2f}",
            f"{100 * row['test_unprotected_worst_relative']:.2f}",
            "yes" if row["test_met"] else "on average" if row["test_met_on_average"] else "no",
        )
    console().print(made)


if __name__ == "__main__":
    main(Config, run)
