"""The page of a recommendation: what to do with so many bytes, and what each language loses."""

from pathlib import Path

from jaxprotect.runs.findings import Finding
from jaxprotect.runs.pages import Section, write_study
from jaxprotect.runs.recommend_folder import RecommendFolder
from jaxprotect.runs.report_tables import Cell, Table
from jaxprotect.runs.results import write_atomically
from jaxprotect.runs.search_figures import language_losses
from jaxprotect.runs.wording import (
    cell,
    counted,
    disparity_cell,
    listed,
    percent,
    relative_cell,
    undefined_because,
)


def write_recommendation_page(found: RecommendFolder) -> Path:
    """Write the recommendation's figure and its report.html.

    Args:
        found: the recommendation.

    Returns:
        The page; the same recommendation gives the same bytes.
    """
    summary = found.summary
    drawing = language_losses(
        found.damages,
        found.names,
        _level(found),
        before_key="plain",
        labels=("with plain bits", "as recommended"),
    )
    write_atomically(found.folder / "figures" / f"{drawing.name}.png", drawing.png)
    sections = [
        Section(
            title="The answer",
            text=(),
            findings=tuple(_answer(found)),
            drawings=(drawing,),
            tables=(_languages(found),),
        ),
        Section(
            title="What else was tried?",
            text=("Each within the budget, compared on the tune sentences.",),
            tables=(_tried(found),),
        ),
    ]
    return write_study(
        found.folder / "report.html",
        title=f"The best use of {summary['budget']:,} bytes: {summary['model']}",
        lead=(
            "Every technique within the same true bytes, indices and scales included: chosen on "
            "select, compared on tune, the best one measured once on test."
        ),
        sections=sections,
    )


def _level(found: RecommendFolder) -> str:
    return f"{100 * found.summary['level']:g} %"


def _answer(found: RecommendFolder) -> list[Finding]:
    row, names = found.summary, found.names
    spent = f"{row['bytes']:,} bytes, {percent(row['bytes'] / row['budget'])} of the budget."
    loss = (
        f"On test ({counted(row['sentences'], 'sentence')}), at most "
        f"{relative_cell(row, 'worst_relative')} ({names[row['worst_language']]}); with plain bits "
        f"within the budget, {row['plain_quantizer']}, "
        f"{relative_cell(row, 'plain_worst_relative')} ({names[row['plain_worst_language']]}). "
        f"Change of the worst, paired: {cell(row, 'change', unit='percentage points', scale=100)}. "
        f"In nats per sentence, at most {cell(row, 'worst_damage')} "
        f"({names[row['worst_absolute_language']]})."
    )
    if destroyed := [names[code] for code in row["destroyed_languages"].split()]:
        loss += f" Worse than guessing: {listed(destroyed)}."
    against = listed([names[code] for code in row["reference_languages"].split()])
    reason = undefined_because(row)
    unequal = f"Disparity, the worst over the mean of {against}: {disparity_cell(row)}"
    kept = f"{row['technique'].replace('_', ' ')}, {row['quantizer']}; {row['kept']}."
    return [
        Finding(title="What to do", text=kept[0].upper() + kept[1:]),
        Finding(title="What it takes", text=spent),
        Finding(title="What each language loses", text=loss),
        Finding(title="How unequal", text=f"{unequal}, as {reason}." if reason else f"{unequal}."),
    ]


def _languages(found: RecommendFolder) -> Table:
    ordered = sorted(found.damages, key=lambda row: -row["relative"])
    rows = []
    for row in ordered:
        code, name = row["language"], found.names[row["language"]]
        rows.append(
            (
                Cell(text=name, sort=name, note=code if code != name else ""),
                Cell(text=relative_cell(row, "plain"), sort=row["plain"]),
                Cell(text=relative_cell(row, "relative"), sort=row["relative"]),
                Cell(text=cell(row, "removed", scale=100), sort=row["removed"]),
                Cell(text=cell(row, "damage"), sort=row["damage"]),
                Cell(text="yes" if row["destroyed"] else "no", sort=float(row["destroyed"])),
            )
        )
    return Table(
        name="languages",
        caption=(
            "What each language loses on test, with plain bits and as recommended: nats added, "
            "relative to the original model's. Removed: paired, in percentage points. In brackets "
            f"{_level(found)} intervals of each language alone."
        ),
        columns=(
            "Language",
            "Plain bits",
            "As recommended",
            "Removed, points",
            "Nats per sentence then",
            "Worse than guessing",
        ),
        rows=tuple(rows),
        filter="Filter languages",
        languages=tuple(row["language"] for row in ordered),
    )


def _tried(found: RecommendFolder) -> Table:
    rows = []
    for row in found.tried:
        name, worst = row["technique"].replace("_", " "), row["tune_worst_relative"]
        rows.append(
            (
                Cell(text=name, sort=name),
                Cell(text=row["quantizer"], sort=row["quantizer"]),
                Cell(text=f"{row['bytes']:,}", sort=row["bytes"]),
                Cell(text=percent(worst), sort=worst),
            )
        )
    return Table(
        name="tried",
        caption="The best scheme of every technique. Largest relative damage on tune, where they "
        "were compared: that of the first looks better than it is.",
        columns=("Technique", "Quantizer", "Bytes", "Worst relative damage on tune"),
        rows=tuple(rows),
        filter="Filter techniques",
    )
