"""Exp-016's report: how few weights are enough, how few can be, and what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.byte_ratios import ratio_cells
from jaxprotect.runs.criteria_figures import criterion_name
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.selection.targets import Target


def write_minimal_sets(
    path: Path,
    model: str,
    target: Target,
    rows: Sequence[dict[str, Any]],
    ratios: Sequence[dict[str, Any]],
    dots: Drawing,
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        model: its name.
        target: what was asked.
        rows: summaries of the searches.
        ratios: of `byte_ratios`, with the quantizer; may be empty.
        dots: the figure of all sets and bounds.

    Returns:
        `path`.
    """
    asked = target.label.replace("<=", "≤")
    lead = (
        f"{model}. Wanted: {asked}, in every language, with 95 % confidence for all at once. "
        "Scores from the select sentences, sizes tried on tune, each set measured once on test."
    )
    sets = plain_table(
        "sets",
        "The smallest set found by each criterion. The bound says how few weights could be "
        "enough at all, in the second-order surrogate corrected at the set found.",
        [_set(row) for row in rows],
    )
    sections = [
        Section(
            title="How few weights are enough, and how few can be?",
            text=(dots.alt,),
            drawings=(dots,),
            tables=(sets,),
        )
    ]
    if ratios:
        cells = [
            {
                "Quantizer": row["quantizer"],
                "Against": criterion_name(row["criterion"]),
                "Guided, KiB": (ratio_cells(row)[0], row["bytes_guided"]),
                "Other, KiB": (ratio_cells(row)[1], row["bytes_other"]),
                "Guided / other": (ratio_cells(row)[2], row["ratio"]),
            }
            for row in ratios
        ]
        caption = (
            "Bytes from which on the target holds on average, on the tune sentences, with paired "
            "bootstrap intervals of the ratio; 0 where the other criterion never holds it."
        )
        sections.append(
            Section(
                title="What does the guided choice save?",
                text=("Bytes of values and indices that protection adds to the model.",),
                tables=(plain_table("ratios", caption, cells),),
            )
        )
    title = "The minimal set: how few weights serve every language?"
    return write_study(path, title=title, lead=lead, sections=sections)


def _set(row: dict[str, Any]) -> dict[str, str | tuple[str, float | None]]:
    found, bound = row["found"], row["lower_bound"]
    gap = found / bound if found and bound else None
    verdict = "yes" if row["test_met"] else "on average" if row["test_met_on_average"] else "no"
    return {
        "Criterion": f"{criterion_name(row['criterion'])}, {row['quantizer']}",
        "Weights": ("not reached" if found is None else f"{found:,}", found),
        "Share, %": ("", None)
        if found is None
        else (f"{100 * row['fraction']:.3f}", row["fraction"]),
        "KiB more": ("", None)
        if found is None
        else (f"{row['overhead_bytes'] / 1024:.1f}", row["overhead_bytes"]),
        "Bound": ("" if bound is None else f"{bound:,.0f}", bound),
        "Set / bound": ("" if gap is None else f"{gap:.2f}", gap),
        "Worst on test, %": (
            f"{100 * row['test_worst_relative']:.2f}",
            row["test_worst_relative"],
        ),
        "Unprotected, %": (
            f"{100 * row['test_unprotected_worst_relative']:.2f}",
            row["test_unprotected_worst_relative"],
        ),
        "Holds on test": verdict,
    }
