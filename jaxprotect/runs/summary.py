"""A run's variants in one table each: summary.csv, and the same on the terminal."""

import csv
import io
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxprotect.evaluation.disparity import disparity_table
from jaxprotect.evaluation.seed import seed_metrics
from jaxprotect.runs.results import ORIGINAL, Run, write_atomically

SHARED = ("variant", "quantizer", "protected", "eligible", "fraction")
"""What a summary row takes from the variant's rows."""


def summarise(run: Run) -> list[dict[str, Any]]:
    """One row per variant: what was protected, the worst language, the disparity, with intervals.

    Args:
        run: a run with at least one finished variant.

    Returns:
        Rows of plain data in the order of the run; the keys of `Disparity.summary`, and under the
        seed protocol those of `SeedMetrics.summary`.
    """
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
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(run.folder / "summary.csv", buffer.getvalue().encode())
    return rows


def print_tables(run: Run, rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print one table per experiment.

    Args:
        run: the run.
        rows: its summary.
        console: where to; the terminal by default, and 110 columns where there is none.
    """
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=110, file=console.file)
    by_name = {row["variant"]: row for row in rows}
    seed = run.manifest["config"]["protocol"] == "seed"
    for experiment, variants in run.manifest["experiments"].items():
        title = f"{experiment}: {rows[0]['quantizer']}, {rows[0]['sentences']} sentences"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("protected", no_wrap=True)
        table.add_column("share", justify="right", no_wrap=True)
        table.add_column("worst damage, % of nats", justify="right", no_wrap=True)
        table.add_column("language", no_wrap=True)
        table.add_column("nats/sentence", justify="right", no_wrap=True)
        table.add_column("disparity", justify="right", no_wrap=True)
        if seed:
            table.add_column("R2 (study)", justify="right", no_wrap=True)
        for name in variants:
            table.add_row(*_cells(by_name[name], seed))
        console.print(table)


def _cells(row: dict[str, Any], seed: bool) -> list[str]:
    cells = [
        row["variant"],
        f"{100 * row['fraction']:.2f} %",
        _interval(row, "worst_relative", 100),
        row["worst_language"],
        f"{row['worst_damage']:.2f}",
        "undefined" if row["ratio"] is None else _interval(row, "ratio", 1),
    ]
    if seed:
        cells.append("undefined" if row["seed_r2"] is None else f"{row['seed_r2']:.2f}")
    return cells


def _interval(row: dict[str, Any], key: str, factor: float) -> str:
    value, low, high = (row[f"{key}{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return f"{factor * value:.2f}"
    return f"{factor * value:.2f} [{factor * low:.2f}, {factor * high:.2f}]"
