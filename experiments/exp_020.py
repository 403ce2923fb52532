"""Exp-020, the frontier: what is the best use of a byte for the worst-off language?

    python -m experiments.exp_020 [--budgets int3-channel int4-channel] [--techniques ...]

Question: every technique gets the same budgets, the true bytes of the packed file, indices and
scales included: the sizes of plain quantizers. Each makes what schemes it can within a budget from
the select sentences, tune takes its best one and then the best of all, and the best are combined;
test measures every one of them once. Does fewer bits with protection beat more bits without? Does
the combined frontier lie below every single technique?
Hardware and runtime: reference model and shipped texts, 2 CPU cores: eight to ten minutes a budget.
Expected: see the README.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.command_line import main
from experiments.common import Setup, load_model_of, manifest
from experiments.exp_020_page import print_frontier, write_frontier
from experiments.splits import load_splits
from jaxprotect.errors import InputError, refuse_unknown
from jaxprotect.evaluation.disparity import compare, disparity_table
from jaxprotect.models.model import Model
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.frontier_figure import frontier_curves
from jaxprotect.runs.ground import scheme_rows
from jaxprotect.runs.recommend import ROUND_TO_NEAREST, Workplace, open_workplace, try_budget
from jaxprotect.runs.results import (
    ORIGINAL,
    Run,
    append_variant,
    open_run,
    save_original,
    write_csv,
)
from jaxprotect.selection.frontier import Tried
from jaxprotect.selection.recommendation import Options

Flat = tyro.conf.arg(name="")

BUDGETS = {
    f"int{bits}-{short}": replace(
        QuantSpec(bits=bits, protected_dtype="float16"), granularity=granularity
    )
    for bits in (2, 3, 4, 5, 6, 8)
    for short, granularity in (("channel", "channel"), ("group64", "group"))
}
"""Plain quantizers whose file sizes are budgets."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All techniques at the same true sizes.

    Args:
        setup: model, texts and output folder (its quantizer and split are not used).
        budgets: plain quantizers whose file sizes are the budgets.
        options: what is tried within each.
        statistics: folder of statistics to share; in the run's folder by default.
    """

    setup: Setup = Setup()
    budgets: tuple[str, ...] = ("int3-channel", "int4-channel", "int4-group64", "int5-channel")
    options: Annotated[Options, Flat] = Options()
    statistics: Path | None = None

    def __post_init__(self) -> None:
        """Refuse budgets that do not exist."""
        refuse_unknown("budgets", self.budgets, BUDGETS)
        if not self.budgets:
            raise InputError(f"`budgets` is empty; allowed are {', '.join(BUDGETS)}")


def run(config: Config) -> list[dict[str, Any]]:
    """Every budget, a table, a figure and a page; budgets that are finished are not done again."""
    setup = config.setup
    out = setup.out or Path("runs") / "exp_020"
    model, texts = load_model_of(setup), load_splits(setup)
    place = open_workplace(
        model,
        texts,
        statistics=config.statistics or out / "statistics",
        reference=setup.reference,
        rounds=config.options.rounds,
        batch_tokens=setup.batch_tokens,
    )
    sizes = {
        name: place.ground.file_size(place.ground.plain(BUDGETS[name])) for name in config.budgets
    }
    described = manifest(setup, model, texts["test"], {"exp_020": list(config.budgets)})
    described["texts"] |= {"select": texts["select"].sha256, "tune": texts["tune"].sha256}
    described["config"] |= {
        "techniques": list(config.options.techniques),
        "combine": config.options.combine,
        "rounds": config.options.rounds,
    }
    with open_run(out / "run", described) as run:
        if not run.has_original:
            save_original(run, place.base)
        for name, budget in sizes.items():
            if f"{name}--recommended" not in run.variants:
                run = _one_budget(config, run, model, place, name, budget)
    rows = summary(run, sizes, setup.reference, setup.draws)
    write_csv(out / "frontier.csv", rows)
    singles = [row for row in rows if row["kind"] == "single"]
    chosen = [row for row in rows if row["kind"] == "recommended"]
    curves = frontier_curves(out / "frontier.png", singles, chosen=chosen, sizes=sizes)
    print_frontier(rows)
    page = write_frontier(out / "report.html", model.name, run, rows, undominated(rows), curves)
    print(f"report: {page}")
    return rows


def _one_budget(
    config: Config, run: Run, model: Model, place: Workplace, name: str, budget: int
) -> Run:
    """Everything within one budget, measured on test; the recommendation last."""
    eligible = config.setup.spec.eligible
    found = try_budget(place, budget, eligible=eligible, options=config.options)
    named = [(f"{name}--{one.technique.replace(' + ', '+')}", one) for one in found]
    for variant, one in [*named, (f"{name}--recommended", found[0])]:
        if variant not in run.variants:
            run = _append(config, run, model, place, variant, one)
    return run


def _append(
    config: Config, run: Run, model: Model, place: Workplace, variant: str, one: Tried
) -> Run:
    evaluation = place.evaluate(one.scheme)
    options = {"reference": config.setup.reference, "draws": config.setup.draws}
    rows = scheme_rows(
        variant, one.technique, one.scheme, one.bytes, model, place.base, evaluation, options
    )
    told = {"tune_worst_relative": one.worst} | _parts(one.scheme)
    return append_variant(run, variant, evaluation, [row | told for row in rows])


def _parts(scheme: Scheme) -> dict[str, bool]:
    return {
        "mixed": scheme.bits is not None,
        "compensated": scheme.weights is not None,
        "prefix": scheme.prefix is not None,
    }


def summary(
    run: Run, sizes: dict[str, int], reference: Sequence[str] | None, draws: int
) -> list[dict[str, Any]]:
    """One row per variant: its bytes, its worst language, and the change against plain bits.

    Args:
        run: the finished run.
        sizes: budget -> bytes.
        reference: reference languages.
        draws: bootstrap draws.

    Returns:
        The rows, by budget and then by damage on test.
    """
    base = run.evaluation(ORIGINAL)
    measured = {variant: run.evaluation(variant) for variant in run.variants}
    found = disparity_table(base, measured, reference=reference, draws=draws)
    rows = []
    for name, budget in sizes.items():
        plain = measured.get(f"{name}--{ROUND_TO_NEAREST}")
        of_budget = []
        for variant, evaluation in measured.items():
            if not variant.startswith(f"{name}--"):
                continue
            first = next(row for row in run.rows if row["variant"] == variant)
            made = _summary_row(name, budget, variant, first) | found[variant].summary()
            if plain is not None:
                change = compare(base, plain, evaluation, draws=draws).worst_relative
                made |= change.to_row("change")
            of_budget.append(made)
        rows += sorted(of_budget, key=lambda row: row["worst_relative"])
    return rows


def _summary_row(name: str, budget: int, variant: str, row: dict[str, Any]) -> dict[str, Any]:
    technique = row["intervention"]["kind"]
    kind = "combined" if " + " in technique else "single"
    kept = ("quantizer", "fraction", "bytes", "overhead_bytes", "mixed", "tune_worst_relative")
    return {
        "variant": variant,
        "budget": name,
        "budget_bytes": budget,
        "kind": "recommended" if variant.endswith("--recommended") else kind,
        "technique": technique,
        **{key: row[key] for key in kept},
    }


def undominated(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Single schemes that are better on test than what is recommended within their budget."""
    best = {row["budget"]: row["worst_relative"] for row in rows if row["kind"] == "recommended"}
    return [
        row
        for row in rows
        if row["kind"] == "single" and row["worst_relative"] < best[row["budget"]]
    ]


if __name__ == "__main__":
    main(Config, run)
