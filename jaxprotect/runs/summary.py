"""A run's variants in one table each: summary.csv, and the same on the terminal."""

from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.evaluation.disparity import disparity_table
from jaxprotect.evaluation.seed import seed_metrics
from jaxprotect.runs.results import ORIGINAL, Run, write_csv
from jaxprotect.runs.run_checks import check_for_summary
from jaxprotect.runs.tables import console, interval, table

SHARED = (
    "variant",
    "quantizer",
    "protected",
    "eligible",
    "fraction",
    "bytes",
    "overhead_bytes",
)
"""What a summary row takes from the variant's rows."""


def summarise(run: Run) -> list[dict[str, Any]]:
    """One row per variant: what was protected, the worst language, the disparity, with intervals.

    Args:
        run: a run with at least one finished variant.

    Returns:
        Rows of plain data in the order of the run; the keys of `Disparity.summary`, and under the
        seed protocol those of `SeedMetrics.summary`.

    Raises:
        InputError: a file of the run is damaged, or its numbers are not those of one run.
    """
    check_for_summary(run, SHARED)
    try:
        return _rows(run)
    except InputError as error:
        raise InputError(f"`{run.folder}`: {error}") from None


def _rows(run: Run) -> list[dict[str, Any]]:
    config = run.manifest["config"]
    base = run.evaluation(ORIGINAL)
    evaluations = {variant: run.evaluation(variant) for variant in run.variants}
    table = disparity_table(base, evaluations, reference=config["reference"], draws=config["draws"])
    first = {}
    for row in run.rows:
        first.setdefault(row["variant"], row)
    rows = []
    for variant, result in table.items():
        row = {key: first[variant][key] for key in SHARED} | result.summary()
        if config["protocol"] == "seed":
            row |= seed_metrics(base, evaluations[variant]).summary()
        rows.append(row)
    return rows


def write_summary(run: Run) -> list[dict[str, Any]]:
    """Write summary.csv and return its rows."""
    rows = summarise(run)
    write_csv(run.folder / "summary.csv", rows)
    return rows


def print_tables(run: Run, rows: list[dict[str, Any]]) -> None:
    """Print one table per experiment.

    Args:
        run: the run.
        rows: its summary.
    """
    by_name = {row["variant"]: row for row in rows}
    seed = run.manifest["config"]["protocol"] == "seed"
    numbers = ["share", "worst damage, % of nats", "language", "nats/sentence", "disparity"]
    for experiment, variants in run.manifest["experiments"].items():
        quantizers = list(dict.fromkeys(by_name[name]["quantizer"] for name in variants))
        made = table(
            f"{experiment}: {'; '.join(quantizers)}; {rows[0]['sentences']} sentences",
            ["protected"],
            numbers + (["R2 (study)"] if seed else []),
        )
        for name in variants:
            made.add_row(*_cells(by_name[name], seed))
        console().print(made)


def _cells(row: dict[str, Any], seed: bool) -> list[str]:
    cells = [
        row["variant"],
        f"{100 * row['fraction']:.2f} %",
        interval(row, "worst_relative", 100),
        row["worst_language"],
        f"{row['worst_damage']:.2f}",
        interval(row, "ratio"),
    ]
    if seed:
        cells.append("undefined" if row["seed_r2"] is None else f"{row['seed_r2']:.2f}")
    return cells
