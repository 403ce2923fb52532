"""Exp-020's table on the terminal, and its report: what a byte buys the worst-off language."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.runs.report_tables import Table
from jaxprotect.runs.results import Run
from jaxprotect.runs.tables import console, interval, table
from jaxprotect.runs.wording import language_names

Row = dict[str, Any]


def technique_name(row: Row) -> str:
    """A technique in words, with the quantizer that it is built on."""
    return f"{row['technique'].replace('_', ' ')}, {row['quantizer']}"


def print_frontier(rows: Sequence[Row]) -> None:
    """Print everything that was measured on test, by budget, the best first."""
    made = table(
        "Worst language on test at equal true bytes",
        ["budget", "technique"],
        ["KiB", "tune, %", "worst on test, %", "language", "change against plain bits"],
    )
    for row in rows:
        if row["kind"] == "recommended":
            continue
        made.add_row(
            row["budget"],
            technique_name(row),
            f"{row['bytes'] / 1024:,.1f}",
            f"{100 * row['tune_worst_relative']:.2f}",
            interval(row, "worst_relative", 100),
            row["worst_language"],
            interval(row, "change", 100) if "change" in row else "",
        )
    console().print(made)


def write_frontier(
    path: Path,
    model: str,
    run: Run,
    rows: Sequence[Row],
    better: Sequence[Row],
    curves: Drawing,
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        model: its name.
        run: the finished run.
        rows: of `exp_020.summary`.
        better: of `exp_020.undominated`.
        curves: the figure.

    Returns:
        `path`.
    """
    lead = (
        f"{model}. Every technique within the same budgets: the true bytes of the packed file, "
        "indices, scales and prefix included. Chosen on select, compared on tune, every number "
        "from test."
    )
    chosen = [row for row in rows if row["kind"] == "recommended"]
    answers = tuple(
        f"In {row['budget_bytes'] / 1024:,.0f} KiB ({row['budget']}): {technique_name(row)}; the "
        f"worst language loses {interval(row, 'worst_relative', 100)} %, "
        f"{interval(row, 'change', 100) if 'change' in row else ''} points against plain bits."
        for row in chosen
    )
    not_dominated = tuple(
        f"In the budget {row['budget']}, {technique_name(row)} alone is better on test "
        f"({interval(row, 'worst_relative', 100)} %)."
        for row in better
    )
    sections = [
        Section(title="What is the best use of so many bytes?", text=answers, drawings=(curves,)),
        Section(
            title="Is the recommendation better than every single technique?",
            text=not_dominated or ("Yes, at every budget, on the test sentences.",),
        ),
        Section(
            title="All techniques at equal bytes",
            text=(
                "Share kept: what an estimate of memory by counting weights would call the "
                "overhead. Kept, KiB: what it really is, values and indices over plain codes; a "
                "dash where channels have bits of their own, for there it cannot be told apart. "
                "Of the budget: the whole file.",
            ),
            tables=(_everything(rows),),
        ),
        Section(
            title="What does each language lose?",
            text=("Relative damage in each language under what is recommended.",),
            tables=(_languages(run, chosen),),
        ),
    ]
    title = "The frontier: what is the best use of a byte?"
    return write_study(path, title=title, lead=lead, sections=sections)


def _everything(rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        if row["kind"] == "recommended":
            continue
        used = row["bytes"] / row["budget_bytes"]
        kept = None if row["mixed"] else row["overhead_bytes"]
        worst = row["worst_language"]
        cells.append(
            {
                "Technique": technique_name(row),
                "Budget": row["budget"],
                "KiB": (f"{row['bytes'] / 1024:,.1f}", row["bytes"]),
                "Of the budget, %": (f"{100 * used:.1f}", used),
                "Share kept, %": (f"{100 * row['fraction']:.2f}", row["fraction"]),
                "Kept, KiB": ("–" if kept is None else f"{kept / 1024:,.1f}", kept),
                "Worst on tune, %": (
                    f"{100 * row['tune_worst_relative']:.2f}",
                    row["tune_worst_relative"],
                ),
                "Worst on test, %": (interval(row, "worst_relative", 100), row["worst_relative"]),
                "Language": language_names([worst])[worst],
                "Disparity": (interval(row, "ratio"), row["ratio"]),
                "Change, points": (interval(row, "change", 100), row["change"])
                if "change" in row
                else ("", None),
            }
        )
    caption = "Change: of the worst language's damage against plain bits of the same budget."
    return plain_table("techniques", caption, cells)


def _languages(run: Run, chosen: Sequence[Row]) -> Table:
    cells = []
    by_variant = {row["variant"]: row for row in chosen}
    rows = [row for row in run.rows if row["variant"] in by_variant]
    codes = tuple(dict.fromkeys(row["language"] for row in rows))
    names = language_names(codes)
    for language in codes:
        line: dict[str, Any] = {"Language": names[language]}
        for row in rows:
            if row["language"] == language:
                heading = f"{by_variant[row['variant']]['budget']}, %"
                line[heading] = (interval(row, "relative", 100), row["relative"])
        cells.append(line)
    caption = "Damage with its 95 % interval, by budget."
    return plain_table("languages", caption, cells, languages=codes)
