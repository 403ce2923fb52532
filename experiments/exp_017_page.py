"""Exp-017's report: what bytes buy, where the bits go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.runs.wording import language_names

METHOD_NAMES = {
    "uniform": "one width",
    "mixed": "mixed widths",
    "pooled": "mixed widths for the mean",
    "fp16": "mixed widths and fp16 weights",
    "int8": "mixed widths and int8 weights",
    "weights": "one width and fp16 weights",
    "heads": "one width and whole heads",
    "layers": "one width and whole layers",
}
"""Methods as tables and figures name them."""


def write_precision(
    path: Path,
    model: str,
    quantizer: str,
    rows: Sequence[dict[str, Any]],
    curves: Drawing,
    maps: Sequence[Drawing],
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        model: its name.
        quantizer: what is common to all widths.
        rows: of `exp_017.compared`.
        curves: damage over bytes.
        maps: mean bits by layer and tensor.

    Returns:
        `path`.
    """
    scales = quantizer.split(" ", 1)[1]
    lead = (
        f"{model}, scales {scales}. Damages predicted from the select sentences, corrected and "
        "chosen on tune, reported on test. Sizes are true bytes of the whole model."
    )
    cells = [_cells(row) for row in rows]
    caption = (
        "Every method within the bytes of an average width. Against uniform: largest relative "
        "damage less that of the largest uniform quantizer within the budget, in points of "
        "percent, with a paired 95 % interval."
    )
    text = tuple(
        _said([row for row in rows if row["average"] == average])
        for average in dict.fromkeys(row["average"] for row in rows)
    )
    sections = [
        Section(
            title="What do as many bytes buy the worst-off language?",
            text=text,
            drawings=(curves,),
            tables=(plain_table("precision", caption, cells),),
        )
    ]
    if maps:
        sections.append(
            Section(
                title="Where do the bits go?",
                text=("Mean bits by tensor, as they were chosen for the worst language.",),
                drawings=tuple(maps),
            )
        )
    return write_study(
        path, title="Mixed precision for every language", lead=lead, sections=sections
    )


def _said(rows: Sequence[dict[str, Any]]) -> str:
    uniform, *others = rows
    start = (
        f"At {uniform['average']:g} bits on average one width leaves the worst language "
        f"{100 * uniform['worst_relative']:.2f} % of damage"
    )
    if not others:
        return f"{start}."
    best = min(others, key=lambda row: row["worst_relative"])
    surely = [row["label"] for row in others if row["change_high"] < 0]
    worse = [row["label"] for row in others if row["change_low"] > 0]
    return (
        f"{start}; the least is {100 * best['worst_relative']:.2f} %, by {best['label']}. Surely "
        f"better than one width: {'; '.join(surely) or 'none'}. "
        f"Surely worse: {'; '.join(worse) or 'none'}."
    )


def _cells(row: dict[str, Any]) -> dict[str, str | tuple[str, float | None]]:
    worst = row["worst_language"]
    return {
        "Method": f"{row['average']:g} bits: {row['label']}",
        "KiB": (f"{row['bytes'] / 1024:.1f}", row["bytes"]),
        "Protected": (f"{row['protected']:,}", row["protected"]),
        "Worst damage, %": (f"{100 * row['worst_relative']:.2f}", row["worst_relative"]),
        "Language": language_names([worst])[worst],
        "Against uniform, points": (
            f"{100 * row['change']:+.2f} [{100 * row['change_low']:+.2f}, "
            f"{100 * row['change_high']:+.2f}]",
            row["change"],
        ),
        "Disparity": (
            "undefined" if row["ratio"] is None else f"{row['ratio']:.2f}",
            row["ratio"],
        ),
    }
