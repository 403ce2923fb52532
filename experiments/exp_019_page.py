"""Exp-019's report: what cached, chosen and learned prefixes give back, and at what cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.runs.recovery_figure import recovery_dots
from jaxprotect.runs.report_tables import Table
from jaxprotect.runs.results import ORIGINAL
from jaxprotect.runs.wording import relative_cell

KINDS = {
    "start": "start token cached",
    "chosen": "tokens chosen",
    "learned": "learned",
    "adapted": "learned for the original",
}


def write_prefixes(
    out: Path, model: str, rows: Sequence[dict[str, Any]], languages: Sequence[dict[str, Any]]
) -> Path:
    """Write the figure and the page.

    Args:
        out: folder of the run.
        model: its name.
        rows: one per variant, of `exp_019.tabulate`.
        languages: one per variant and language.

    Returns:
        The page.
    """
    treated = [row for row in rows if row["weights"] != ORIGINAL and row["kind"] != "plain"]
    sections = []
    if treated:
        shown = _shown(treated)
        drawing = recovery_dots(
            out / "recovery.png",
            [
                {"quantizer": row["weights"], "treatment": shown[row["variant"]]}
                | {"language": row["language"], "share": row["net_share"]}
                | {f"share_{end}": row[f"net_share_{end}"] for end in ("low", "high")}
                for row in languages
                if row["variant"] in shown
            ],
            title="How much of its damage does a prefix undo in each language?",
            caption="Share of the damage undone beyond what a prefix does for the original model, "
            "with 95 % intervals over sentences; below 0 the prefix does harm.",
        )
        sections.append(
            Section(
                title="How much of the damage does a prefix undo, and for how many bytes?",
                text=(drawing.alt,),
                drawings=(drawing,),
                tables=(_treated(treated),),
            )
        )
    controls = [row for row in rows if row["weights"] == ORIGINAL]
    if controls:
        sections.append(
            Section(
                title="What do prefixes do to the original model?",
                text=(
                    "A prefix trained on sentences like those of the test also adapts a model to "
                    "them. Below 0: the original model is better with the prefix than without.",
                ),
                tables=(_controls(controls),),
            )
        )
    plain = [row for row in rows if row["kind"] == "plain"]
    lead = (
        f"{model}. Prefixes chosen or trained on the select sentences, damages of the test "
        "sentences against the original model without a prefix. Without one, the worst language "
        "loses "
        + "; ".join(f"{relative_cell(r, 'worst_relative')} at {r['weights']}" for r in plain)
        + "."
    )
    title = "Activation caching: what do a few keys and values give back?"
    return write_study(out / "report.html", title=title, lead=lead, sections=sections)


def treatment(row: dict[str, Any]) -> str:
    """A variant's prefix in words."""
    words = KINDS[row["kind"]]
    if row["kind"] == "chosen":
        return f"start token and {row['positions'] - 1} {words}"
    if row["kind"] == "start":
        return words
    return f"{row['positions']} position{'s' * (row['positions'] > 1)} {words}"


def _shown(treated: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Variants of the figure -> their treatment: of each kind the longest prefix."""
    longest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in treated:
        key = (row["weights"], row["kind"])
        if key not in longest or longest[key]["positions"] < row["positions"]:
            longest[key] = row
    return {row["variant"]: treatment(row) for row in longest.values()}


def _percent(value: float | None) -> tuple[str, float | None]:
    return ("" if value is None else f"{100 * value:.2f}", value)


def _treated(rows: Sequence[dict[str, Any]]) -> Table:
    cells = []
    for row in rows:
        difference = [row[f"worst_difference{end}"] for end in ("", "_low", "_high")]
        change = "" if difference[0] is None else f"{100 * difference[0]:.2f}"
        if None not in difference[1:]:
            change += f" [{100 * difference[1]:.2f}, {100 * difference[2]:.2f}]"
        cells.append(
            {
                "Prefix": f"{treatment(row)}, {row['weights']}",
                "Bytes": (f"{row['overhead_bytes']:,}", row["overhead_bytes"]),
                "Worst, %": (relative_cell(row, "worst_relative"), row["worst_relative"]),
                "Change of the worst, points": (change, difference[0]),
                "Disparity": (
                    "undefined" if row["ratio"] is None else f"{row['ratio']:.2f}",
                    row["ratio"],
                ),
                "Undone, %": _percent(row["mean_recovered_share"]),
                "Net of adaptation, %": _percent(row["mean_net_share"]),
                "Nats per sentence and KiB": (
                    f"{1024 * row['mean_nats_per_byte']:.3f}",
                    row["mean_nats_per_byte"],
                ),
                "Same prefix on the original, %": _percent(row["same_prefix_relative"]),
            }
        )
    caption = (
        "Shares and nats are means over languages. Net: less what a prefix does for the original "
        "weights (the same prefix where it is tokens, one trained for them where it is learned)."
    )
    return plain_table("prefixes", caption, cells)


def _controls(rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        {
            "Prefix": row["variant"].removesuffix(f"--{ORIGINAL}"),
            "Mean relative damage, %": _percent(row["mean_relative"]),
            "Worst, %": (relative_cell(row, "worst_relative"), row["worst_relative"]),
        }
        for row in rows
    ]
    caption = "Relative damage of the original model with each prefix before every sentence."
    return plain_table("controls", caption, cells)
