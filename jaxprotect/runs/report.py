"""The report of a run, or of several side by side: one HTML file that needs nothing else."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.runs.comparison_figure import curves_of_runs
from jaxprotect.runs.comparisons import Group, grouped
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.figures import draw_figures, save_drawings
from jaxprotect.runs.findings import findings, what_was_run, with_cost
from jaxprotect.runs.language_choices import language_choices
from jaxprotect.runs.language_tables import answer_table, heat_table, language_table, to_data
from jaxprotect.runs.lead import chosen, lead
from jaxprotect.runs.pages import render
from jaxprotect.runs.provenance import provenance
from jaxprotect.runs.report_tables import Table, budget_table, duel_table, variant_table
from jaxprotect.runs.results import Run, write_atomically
from jaxprotect.runs.side_by_side import Side, comparable, headlines, languages_side_by_side
from jaxprotect.runs.summary import summarise
from jaxprotect.runs.wording import counted


def write_report(run: Run, rows: Sequence[dict[str, Any]] | None = None) -> Path:
    """Write a run's figures and its report.html.

    Args:
        run: a run with at least one finished variant.
        rows: its summary, if it is there already.

    Returns:
        The report, in the run's folder; the same run gives the same bytes.

    Raises:
        InputError: no variant is finished.
    """
    groups = _groups(run, rows)
    drawings = draw_figures(groups)
    save_drawings(run, drawings)
    path = run.folder / "report.html"
    title = f"What quantization costs each language: {run.manifest['model']['name']}"
    write_atomically(
        path, _page(title, [_section(Side(label="", run=run, groups=groups), drawings)])
    )
    return path


def write_comparison(
    runs: Sequence[Run], out: Path, rows: Sequence[Sequence[dict[str, Any]]] | None = None
) -> Path:
    """Write one page for several runs: a table of their headlines, then each in full.

    Args:
        runs: runs with at least one finished variant each.
        out: the HTML file to write.
        rows: their summaries, if they are there already.

    Returns:
        `out`.

    Raises:
        InputError: no run, the same run twice, or a run without a finished variant.
    """
    if not runs:
        raise InputError("`runs` is empty; give at least one run folder")
    folders = [run.folder.resolve() for run in runs]
    if len(set(folders)) < len(folders):
        raise InputError("`runs` names the same folder more than once")
    names = [folder.name for folder in folders]
    labels = [
        name if names.count(name) == 1 else str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]
    summaries = [None] * len(runs) if rows is None else rows
    sides = [
        Side(label=label, run=run, groups=_groups(run, summary))
        for label, run, summary in zip(labels, runs, summaries, strict=True)
    ]
    sections = [_section(side, draw_figures(side.groups)) for side in sides]
    title = f"What quantization costs each language: {counted(len(runs), 'run')} compared"
    write_atomically(out, _page(title, sections, sides))
    return out


def _groups(run: Run, rows: Sequence[dict[str, Any]] | None) -> list[Group]:
    if not run.rows:
        raise InputError(f"{run.folder} has no finished variant to report; run it to the end")
    return grouped(run, summarise(run) if rows is None else rows)


def _section(side: Side, drawings: Sequence[Drawing]) -> dict[str, Any]:
    """All that the page says about one run, as text."""
    run, groups = side.run, side.groups
    first = groups[0]
    seed = run.manifest["config"]["protocol"] == "seed"
    shown = first.plain or next(iter(first.rows))
    variants = [(group, name) for group in groups for name in group.rows]
    return {
        "label": side.label,
        "run": what_was_run(run, groups),
        "headlines": headlines([side]) if len(groups) > 1 else None,
        "answers": [
            {
                "quantizer": group.quantizer if len(groups) > 1 else "",
                "lead": lead(group),
                "languages": answer_table(
                    group, chosen(group) or next(iter(group.rows)), f"answer-{index}"
                ),
                "findings": findings(run, group),
                "tables": _answer_tables(group, index),
            }
            for index, group in enumerate(groups)
        ],
        "figures": [_figure(drawing) for drawing in drawings],
        "heat": [heat_table(group, f"heat-{index}") for index, group in enumerate(groups)],
        "variants": variant_table(groups, seed=seed),
        "seed": seed,
        "languages": language_table(first, shown),
        "chosen": shown,
        "choices": [(name, _choice(group, name)) for group, name in variants],
        "data": {name: to_data(language_table(group, name)) for group, name in variants},
        "provenance": provenance(run),
        "config": json.dumps(run.manifest["config"], indent=1, ensure_ascii=False),
    }


def _figure(drawing: Drawing) -> dict[str, Any]:
    return {"drawing": drawing, "data": base64.b64encode(drawing.png).decode()}


def _answer_tables(group: Group, index: int) -> list[Table]:
    tables = []
    if group.protected():
        tables.append(budget_table(group, f"budgets-{index}"))
    if group.controls():
        tables.append(duel_table(group, f"random-{index}"))
    return tables


def _choice(group: Group, variant: str) -> str:
    what = with_cost(group, variant)
    return what if what.startswith(variant) else f"{variant}: {what}"


def _page(title: str, sections: Sequence[dict[str, Any]], compared: Sequence[Side] = ()) -> bytes:
    curves = curves_of_runs({side.name(of): of for side in compared for of in side.groups})
    codes = [code for section in sections for code in section["languages"].languages]
    return render(
        "report.html.j2",
        title=title,
        sections=sections,
        headlines=headlines(compared) if compared else None,
        comparable=comparable(compared) if compared else "",
        curves=_figure(curves) if curves else None,
        by_language=languages_side_by_side(compared) if compared else None,
        seed=any(section["seed"] for section in sections),
        **language_choices(codes),
    )
