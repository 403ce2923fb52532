"""Several runs side by side: their headlines, their languages, and whether they compare at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxprotect.runs.comparisons import Group
from jaxprotect.runs.findings import with_cost
from jaxprotect.runs.lead import WITHIN, best_within
from jaxprotect.runs.report_tables import Cell, Table, more_bytes_cell, ratio_cell, worst_cell
from jaxprotect.runs.results import Run
from jaxprotect.runs.wording import cell, of_weights, relative_cell

_NOTHING = Cell(text="not measured", sort=None)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the runs.

    Args:
        label: tells it from the others.
        run: the run.
        groups: its variants by quantizer.
    """

    label: str
    run: Run
    groups: Sequence[Group]

    def name(self, group: Group) -> str:
        """The run, and its quantizer where it has several."""
        return f"{self.label}, {group.quantizer}" if len(self.groups) > 1 else self.label


def same_sentences(sides: Sequence[Side]) -> bool:
    """Whether all runs were measured on the same sentences of the same languages."""
    return len({_texts(side.run) for side in sides}) == 1


def comparable(sides: Sequence[Side]) -> str:
    """Whether the runs' numbers may be held against each other, in words; empty for one run."""
    if len(sides) == 1:
        return ""
    models = {
        (side.run.manifest["model"]["name"], side.run.manifest["model"]["sha256"]) for side in sides
    }
    protocols = {side.run.manifest["config"]["protocol"] for side in sides}
    text = (
        "All runs are measured on the same sentences."
        if same_sentences(sides)
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


def headlines(sides: Sequence[Side]) -> Table:
    """One row per run and quantizer: unprotected, and the best protection within 5 %."""
    rows = [
        {"Run": _text(side.label), "Model": _text(side.run.manifest["model"]["name"])}
        | {"Quantizer": _text(group.quantizer), "Sentences in languages": _size(side.run)}
        | _headline(group)
        for side in sides
        for group in side.groups
    ]
    # What is the same in all rows, or nowhere measured, is left out.
    alone = ("Run", "Model", "Sentences in languages") if len(sides) == 1 else ()
    columns = [
        name
        for name in rows[0]
        if name not in alone and any(row[name] is not _NOTHING for row in rows)
    ]
    return Table(
        name="headlines",
        caption=(
            "Side by side: plain quantization, and where anything was protected, the protection of "
            f"at most {of_weights(WITHIN)} of the eligible weights that leaves the least damage. "
            f"In brackets {sides[0].groups[0].level} intervals."
        ),
        columns=tuple(columns),
        rows=tuple(tuple(row[name] for name in columns) for row in rows),
    )


def languages_side_by_side(sides: Sequence[Side]) -> Table | None:
    """Every language's relative damage in every run, unprotected and best protected.

    Args:
        sides: the runs.

    Returns:
        One row per language; None where the sentences are not the same.
    """
    if not same_sentences(sides):
        return None
    columns = []
    for side in sides:
        for group in side.groups:
            best = best_within(group)
            if group.plain is not None:
                columns.append((f"{side.name(group)}: unprotected", group, group.plain))
            if best is not None:
                columns.append((f"{side.name(group)}: {with_cost(group, best)}", group, best))
    names = sides[0].groups[0].names
    worst = {
        code: max((group.languages[of][code]["relative"] for _, group, of in columns), default=0.0)
        for code in names
    }
    ordered = sorted(names, key=lambda code: -worst[code])
    rows = [
        (
            Cell(text=names[code], sort=names[code], note=code if code != names[code] else ""),
            *(_relative(group.languages[variant][code]) for _, group, variant in columns),
        )
        for code in ordered
    ]
    return Table(
        name="by-language",
        caption=(
            "Each language's relative damage in every run: unprotected, and under the best "
            f"protection within {of_weights(WITHIN)}. In brackets {sides[0].groups[0].level} "
            "intervals of each number alone."
        ),
        columns=("Language", *(heading for heading, _, _ in columns)),
        rows=tuple(rows),
        filter="Filter runs",
        find="columns",
        languages=tuple(ordered),
    )


def _texts(run: Run) -> str:
    return json.dumps(run.manifest["texts"], sort_keys=True)


def _text(text: str) -> Cell:
    return Cell(text=text, sort=text)


def _relative(row: Any) -> Cell:
    return Cell(text=relative_cell(row, "relative"), sort=row["relative"])


def _size(run: Run) -> Cell:
    texts = run.manifest["texts"]
    count = len(texts["ids"])
    return Cell(text=f"{count:,} in {len(texts['languages'])}", sort=count)


def _headline(group: Group) -> dict[str, Cell]:
    row = None if group.plain is None else group.rows[group.plain]
    best = best_within(group)
    nats = _NOTHING
    if row is not None:
        worst = group.names[row["worst_absolute_language"]]
        nats = Cell(text=cell(row, "worst_damage"), sort=row["worst_damage"], note=worst)
    return {
        "Unprotected: worst relative damage": _NOTHING if row is None else worst_cell(group, row),
        "Unprotected: worst nats per sentence": nats,
        "Unprotected: disparity": _NOTHING if row is None else ratio_cell(row),
        "Best within 5 %: worst relative damage": _NOTHING
        if best is None
        else _best_cell(group, best),
        "Best within 5 %: KiB more": _NOTHING
        if best is None
        else more_bytes_cell(group.rows[best]),
    }


def _best_cell(group: Group, variant: str) -> Cell:
    row = group.rows[variant]
    return Cell(
        text=relative_cell(row, "worst_relative"),
        sort=row["worst_relative"],
        note=f"{with_cost(group, variant)}; {group.names[row['worst_language']]}",
    )
