"""The report of a run, or of several side by side: one HTML file that needs nothing else."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.runs.comparisons import Group, grouped
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.figures import draw_figures, save_drawings
from jaxprotect.runs.findings import findings, what_was_run, with_cost, within_budgets
from jaxprotect.runs.pages import render
from jaxprotect.runs.report_tables import (
    Cell,
    Table,
    budget_table,
    duel_table,
    language_table,
    ratio_cell,
    to_data,
    variant_table,
    worst_cell,
)
from jaxprotect.runs.results import Run, write_atomically
from jaxprotect.runs.summary import summarise
from jaxprotect.runs.wording import cell, counted, relative_cell


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
    write_atomically(path, _page(title, [_section("", run, groups, drawings)], None, ""))
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
    every = [
        (label, run, _groups(run, summary))
        for label, run, summary in zip(labels, runs, summaries, strict=True)
    ]
    sections = [_section(label, run, groups, draw_figures(groups)) for label, run, groups in every]
    title = f"What quantization costs each language: {counted(len(runs), 'run')} compared"
    write_atomically(out, _page(title, sections, _headlines(every), _comparable(runs)))
    return out


def _groups(run: Run, rows: Sequence[dict[str, Any]] | None) -> list[Group]:
    if not run.rows:
        raise InputError(f"{run.folder} has no finished variant to report; run it to the end")
    return grouped(run, summarise(run) if rows is None else rows)


def _comparable(runs: Sequence[Run]) -> str:
    """Whether the runs' numbers may be held against each other."""
    if len(runs) == 1:
        return ""
    texts = {json.dumps(run.manifest["texts"], sort_keys=True) for run in runs}
    models = {(run.manifest["model"]["name"], run.manifest["model"]["sha256"]) for run in runs}
    protocols = {run.manifest["config"]["protocol"] for run in runs}
    text = (
        "All runs are measured on the same sentences."
        if len(texts) == 1
        else "The runs are measured on different sentences or languages: their worst languages "
        "and disparities are not about the same thing, and nats per sentence do not compare."
    )
    if len(models) > 1:
        text += (
            " They are of different models: relative damage compares, nats per sentence depend on "
            "how good each model is."
        )
    if len(protocols) > 1:
        text += " They follow different protocols: the seed protocol scores texts another way."
    return text + " Intervals of different runs are not paired: where they overlap, look closer."


def _headlines(runs: Sequence[tuple[str, Run, Sequence[Group]]]) -> Table:
    """One row per run and quantizer: unprotected, and the best protection within 5 %."""
    rows = [
        {"Run": _text(label), "Model": _text(run.manifest["model"]["name"])}
        | {"Quantizer": _text(group.quantizer), "Sentences in languages": _size(run)}
        | _headline(group)
        for label, run, groups in runs
        for group in groups
    ]
    # What is the same in all rows, or nowhere measured, is left out.
    alone = ("Run", "Model", "Sentences in languages") if len(runs) == 1 else ()
    columns = [
        name
        for name in rows[0]
        if name not in alone and any(row[name] is not _NOTHING for row in rows)
    ]
    return Table(
        name="headlines",
        caption=(
            "Side by side: plain quantization, and where anything was protected, the protection of "
            "at most 5 % of the eligible weights that leaves the least damage. In brackets "
            f"{runs[0][2][0].level} intervals."
        ),
        columns=tuple(columns),
        rows=tuple(tuple(row[name] for name in columns) for row in rows),
    )


_NOTHING = Cell(text="not measured", sort=None)


def _text(text: str) -> Cell:
    return Cell(text=text, sort=text)


def _size(run: Run) -> Cell:
    texts = run.manifest["texts"]
    count = len(texts["ids"])
    return Cell(text=f"{count:,} in {len(texts['languages'])}", sort=count)


def _headline(group: Group) -> dict[str, Cell]:
    row = None if group.plain is None else group.rows[group.plain]
    best = [v for _, v in within_budgets(group) if group.rows[v]["fraction"] <= 0.05][-1:]
    nats = _NOTHING
    if row is not None:
        worst = group.names[row["worst_absolute_language"]]
        nats = Cell(text=cell(row, "worst_damage"), sort=row["worst_damage"], note=worst)
    return {
        "Unprotected: worst relative damage": _NOTHING if row is None else worst_cell(group, row),
        "Unprotected: worst nats per sentence": nats,
        "Unprotected: disparity": _NOTHING if row is None else ratio_cell(row),
        "Best within 5 %: worst relative damage": _best_cell(group, best[0]) if best else _NOTHING,
    }


def _best_cell(group: Group, variant: str) -> Cell:
    row = group.rows[variant]
    return Cell(
        text=relative_cell(row, "worst_relative"),
        sort=row["worst_relative"],
        note=with_cost(group, variant),
    )


def _section(
    label: str, run: Run, groups: Sequence[Group], drawings: Sequence[Drawing]
) -> dict[str, Any]:
    """All that the page says about one run, as text."""
    first = groups[0]
    seed = run.manifest["config"]["protocol"] == "seed"
    chosen = first.plain or next(iter(first.rows))
    variants = [(group, name) for group in groups for name in group.rows]
    return {
        "label": label,
        "run": what_was_run(run, groups),
        "headlines": _headlines([(label, run, groups)]) if len(groups) > 1 else None,
        "answers": [
            {
                "quantizer": group.quantizer if len(groups) > 1 else "",
                "findings": findings(run, group),
                "tables": _answer_tables(group, index),
            }
            for index, group in enumerate(groups)
        ],
        "figures": [
            {"drawing": drawing, "data": base64.b64encode(drawing.png).decode()}
            for drawing in drawings
        ],
        "variants": variant_table(groups, seed=seed),
        "seed": seed,
        "languages": language_table(first, chosen),
        "chosen": chosen,
        "choices": [(name, _choice(group, name)) for group, name in variants],
        "data": {name: to_data(language_table(group, name)) for group, name in variants},
        "provenance": _provenance(run),
        "config": json.dumps(run.manifest["config"], indent=1, ensure_ascii=False),
    }


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


def _provenance(run: Run) -> list[tuple[str, str]]:
    """What the numbers are numbers of."""
    model, texts, device = (run.manifest[key] for key in ("model", "texts", "device"))
    ids = texts["ids"]
    unknown = "not recorded"
    lines = f"{len(ids)} lines, from {min(ids)} to {max(ids)}"
    return [
        ("Model", model["name"]),
        ("Revision", model["revision"] or unknown),
        ("Weights, sha256", model["sha256"] or unknown),
        ("Architecture", _pairs(model["architecture"])),
        ("Texts", texts["source"]),
        ("Texts, sha256", texts["sha256"] or unknown),
        ("Sentences", lines),
        ("Languages", ", ".join(texts["languages"])),
        ("Protocol", run.manifest["config"]["protocol"]),
        ("Device", _pairs(device)),
        ("Versions", _pairs(run.manifest["versions"])),
    ]


def _pairs(values: dict[str, Any]) -> str:
    """`layers 4, tied head True`, each name and its value on one line."""
    pairs = (f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return ", ".join(pair.replace(" ", "\N{NO-BREAK SPACE}") for pair in pairs)


def _page(
    title: str, sections: Sequence[dict[str, Any]], headlines: Table | None, comparable: str
) -> bytes:
    return render(
        "report.html.j2",
        title=title,
        sections=sections,
        headlines=headlines,
        comparable=comparable,
        seed=any(section["seed"] for section in sections),
    )
