"""Exp-017, mixed precision: what do as many bytes buy the worst-off language, spent how?

    python -m experiments.exp_017 [--averages 3 4] [--protected-levels channel] [--out DIR]

Question: at equal true bytes, how much of the worst language's damage do widths by layer, tensor,
head or output channel take off one width everywhere; does splitting the budget between widths and
single protected weights (fp16, int8) do better; do whole heads or whole layers at 16 bits; and does
it matter that widths are chosen for the worst language and not for the mean? A budget is the size
of an average width: that of the uniform quantizer where the average is whole. Damages are predicted
from the select sentences, corrected and chosen by those measured on tune, reported on test, with
paired intervals against the largest uniform quantizer within the budget.
Hardware and runtime: reference model, shipped texts, 2 CPU cores: about 15 minutes when idle.
Expected: see the README; at 2.5 bits the finer the units, the more is gained.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command_line import main
from experiments.common import Setup, load_model_of, manifest
from experiments.exp_017_page import METHOD_NAMES, write_precision
from experiments.precision_choices import Plan, choose, prepare, spec_of
from experiments.splits import load_splits
from jaxprotect.errors import InputError, refuse_unknown
from jaxprotect.evaluation.disparity import compare
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.progress import progress
from jaxprotect.quantization.precision import LEVELS, WIDTHS, Level, check_widths
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import collect_statistics
from jaxprotect.runs.precision_figures import allocation_map, damage_over_bytes
from jaxprotect.runs.results import (
    ORIGINAL,
    Run,
    append_variant,
    open_run,
    write_atomically,
    write_csv,
)
from jaxprotect.runs.summary import write_summary
from jaxprotect.runs.sweep import Variant, measure, measure_original
from jaxprotect.runs.tables import console, table


@dataclass(frozen=True, kw_only=True)
class Config:
    """Bits and protection at equal bytes.

    Args:
        setup: model, texts, quantizer (its bits are not used) and output folder.
        averages: bits per weight that the budgets stand for, 2 to 8.
        levels: units of mixed precision.
        protected_levels: units of mixed precision beside protected weights.
        widths: widths allowed.
        shares: of a budget that go to protected weights at first.
        rounds: candidates per choice.
    """

    setup: Setup = Setup(spec=QuantSpec(protected_dtype="float16"))
    averages: tuple[float, ...] = (2.5, 3.0, 3.5, 4.0, 5.0)
    levels: tuple[Level, ...] = LEVELS
    protected_levels: tuple[Level, ...] = ("channel",)
    widths: tuple[int, ...] = WIDTHS
    shares: tuple[float, ...] = (0.05,)
    rounds: int = 2

    def __post_init__(self) -> None:
        """Refuse budgets, levels and widths that do not exist."""
        for average in self.averages:
            if not 2 <= average <= 8:
                raise InputError(f"`averages` has {average}; allowed are 2 to 8")
        for option in ("levels", "protected_levels"):
            refuse_unknown(option, getattr(self, option), LEVELS)
        if self.setup.protocol == "seed" or self.setup.quantizer.granularity == "tensor":
            raise InputError("`granularity` is tensor; heads and channels need scales inside it")
        check_widths(self.widths)
        if not set(range(2, 9)) | {16} <= set(self.widths):
            raise InputError(f"`widths` is {self.widths}; the comparison needs all of {WIDTHS}")


def plans(config: Config) -> list[Plan]:
    """Every choice, the uniform one of each budget first."""
    found = []
    for average in config.averages:
        found.append(Plan(method="uniform", level=None, average=average))
        for level in config.levels:
            found.append(Plan(method="mixed", level=level, average=average))
        if "channel" in config.levels:
            found.append(Plan(method="pooled", level="channel", average=average))
        for method in ("fp16", "int8"):
            for level in config.protected_levels:
                found.append(Plan(method=method, level=level, average=average))
        for method in ("weights", "heads", "layers"):
            found.append(Plan(method=method, level=None, average=average))
    return found


def run(config: Config) -> list[dict[str, Any]]:
    """Choose, measure on test, compare and draw."""
    setup, spec = config.setup, config.setup.quantizer
    out = setup.out or Path("runs") / "exp_017"
    model, texts = load_model_of(setup), load_splits(setup)
    wanted = plans(config)
    described = manifest(setup, model, texts["test"], {"exp_017": [plan.name for plan in wanted]})
    described["texts"] |= {"select": texts["select"].sha256, "tune": texts["tune"].sha256}
    described["config"] |= {"shares": config.shares, "rounds": config.rounds}
    store = collect_statistics(
        out / "statistics", model, texts["select"], batch_tokens=setup.batch_tokens
    )
    with open_run(out / "run", described) as opened:
        run = opened
        test = encode(model, texts["test"], batch_tokens=setup.batch_tokens)
        base = measure_original(run, model, test)
        todo = [plan for plan in wanted if plan.name not in run.variants]
        if todo:
            tune = encode(model, texts["tune"], batch_tokens=setup.batch_tokens)
            choices = prepare(
                model,
                spec,
                store,
                tune,
                widths=config.widths,
                rounds=config.rounds,
                shares=config.shares,
            )
            bar = progress(todo, initial=len(wanted) - len(todo), total=len(wanted), unit="choice")
            for plan in bar:
                bar.set_description(plan.name)
                made = choose(plan, choices)
                variant = Variant(
                    name=plan.name,
                    intervention={
                        "kind": "precision",
                        "method": plan.method,
                        "level": plan.level,
                        "average": plan.average,
                        "budget": choices.budget(plan.average),
                        "tune": max(made.measured.values()),
                        "bound": made.bound,
                    },
                    spec=spec_of(plan, spec),
                    mask=lambda params, made=made: made.mask,
                )
                rows, evaluation = measure(
                    variant,
                    model,
                    test,
                    base,
                    reference=setup.reference,
                    draws=setup.draws,
                    bits=jax.tree.map(jnp.asarray, made.bits),
                )
                _save_bits(out / "bits" / f"{plan.name}.npz", made.bits)
                run = append_variant(run, plan.name, evaluation, rows)
        rows = compared(run, wanted, setup.draws)
        write_csv(out / "precision.csv", rows)
    curves = damage_over_bytes(out / "precision.png", rows)
    maps = [
        allocation_map(
            out / f"bits-{plan.name}.png",
            load_bits(out / "bits" / f"{plan.name}.npz"),
            title=f"Where do the bits go? {plan.average:g} on average, by {plan.level}",
        )
        for plan in wanted
        if plan.method == "mixed" and plan.level in ("tensor", "channel")
    ]
    print_precision(rows)
    page = write_precision(out / "report.html", model.name, spec.label, rows, curves, maps)
    print(f"report: {page}")
    return rows


def compared(run: Run, wanted: list[Plan], draws: int) -> list[dict[str, Any]]:
    """One row per choice: damages on test, and against the uniform quantizer of its budget.

    Args:
        run: the finished run.
        wanted: its choices, in order.
        draws: bootstrap draws.

    Returns:
        Rows; `change` is the worst relative damage less that of the uniform quantizer, with a
        paired interval.
    """
    first = {row["variant"]: row for row in run.rows}
    summary = {row["variant"]: row for row in write_summary(run)}
    base, rows = run.evaluation(ORIGINAL), []
    for plan in wanted:
        uniform = f"{plan.average:g}-uniform"
        found, made = summary[plan.name], first[plan.name]["intervention"]
        change = compare(
            base, run.evaluation(uniform), run.evaluation(plan.name), draws=draws
        ).worst_relative
        label = METHOD_NAMES[plan.method] + (f", by {plan.level}" if plan.level else "")
        rows.append(
            {
                "variant": plan.name,
                "label": label,
                "method": plan.method,
                "level": plan.level or "",
                "average": plan.average,
                "budget": made["budget"],
                "bytes": found["bytes"],
                "protected": found["protected"],
                "worst_language": found["worst_language"],
                "worst_relative": found["worst_relative"],
                "worst_relative_low": found["worst_relative_low"],
                "worst_relative_high": found["worst_relative_high"],
                "uniform_relative": summary[uniform]["worst_relative"],
                "change": change.value,
                "change_low": change.low,
                "change_high": change.high,
                "tune_relative": made["tune"],
                "bound": made["bound"],
                "ratio": found["ratio"],
                "ratio_low": found["ratio_low"],
                "ratio_high": found["ratio_high"],
            }
        )
    return rows


def _save_bits(path: Path, bits: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key.replace("/", "|"): value for key, value in bits.items()}
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_bits(path: Path) -> dict[str, np.ndarray]:
    """The bits of a choice, as the experiment wrote them."""
    with np.load(path, allow_pickle=False) as arrays:
        return {key.replace("|", "/"): arrays[key] for key in arrays.files}


def print_precision(rows: list[dict[str, Any]]) -> None:
    """Print one table per budget.

    Args:
        rows: of `compared`.
    """
    numbers = ["KiB", "protected", "worst on test, %", "language", "against uniform, points"]
    for average in dict.fromkeys(row["average"] for row in rows):
        of_budget = [row for row in rows if row["average"] == average]
        budget = of_budget[0]["budget"] / 1024
        made = table(
            f"exp_017: {average:g} bits on average, {budget:.1f} KiB",
            ["method"],
            [*numbers, "disparity"],
        )
        for row in of_budget:
            made.add_row(
                row["label"],
                f"{row['bytes'] / 1024:.1f}",
                f"{row['protected']:,}",
                f"{100 * row['worst_relative']:.2f}",
                row["worst_language"],
                f"{100 * row['change']:+.2f} [{100 * row['change_low']:+.2f}, "
                f"{100 * row['change_high']:+.2f}]",
                "undefined" if row["ratio"] is None else f"{row['ratio']:.2f}",
            )
        console().print(made)


if __name__ == "__main__":
    main(Config, run)
