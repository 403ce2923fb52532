"""The universe as tables: on the terminal, and as a page of Markdown with its picture."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.hub_counts import HubCount
from jaxprotect.runs.minimal_words import answer
from jaxprotect.runs.tables import console, print_brief, table
from jaxprotect.runs.universe import Row, Universe, places
from jaxprotect.runs.wording import of_weights, part_name

LEFT, RIGHT, LAST = ["level", "what"], ["models", "weights", "share of the model"], "source"

MOST = 10
"""Languages and categories that are shown; JSON has all."""


def print_universe(found: Universe, hub: HubCount | None) -> None:
    """Print the levels, what the hub lists, where the set lies, and what does not fit.

    Args:
        found: the universe.
        hub: the count on the hub, if there is one.
    """
    screen = console()
    made = table(f"The weight universe around {escape(found.name)}", LEFT, RIGHT)
    made.add_column(LAST, overflow="fold")
    level = None
    for row in found.rows():
        if level not in (None, row["level"]) and row["level"] in (4, 6):
            made.add_section()
        level = row["level"]
        made.add_row(*map(escape, level_cells(row)))
    screen.print(made)
    for line in found.findings:
        screen.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    if hub is not None:
        _print_hub(hub)
    if found.search is not None:
        for finding in answer(found.search):
            screen.print(f"{finding.title}: {finding.text}", markup=False, highlight=False)
        if rows := places(found.search):
            headings, cells = place_cells(rows)
            made = table("where the set lies, weights", headings[:1], headings[1:])
            for line in cells:
                made.add_row(*line)
            screen.print(made)
    if brief := found.brief():
        print_brief(brief)


def level_cells(row: Row) -> list[str]:
    """A row of the universe as text: level, what, models, weights, share, source and date."""

    def count(kind: str) -> str:
        if row[kind] is None:
            return ""
        return f"{'≥ ' if kind in row['at_least'] else ''}{row[kind]:,}"

    source = f"{row['source']} ({row['date']})" if row["date"] else row["source"]
    share = "" if row["share"] is None else of_weights(row["share"])
    return [str(row["level"]), row["name"], count("models"), count("weights"), share, source]


def place_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table of places; columns are components, the last their sum."""
    kinds = [kind for kind in rows[0] if kind != "layer"]
    lines = [
        [
            "outside the layers" if row["layer"] is None else f"layer {row['layer']}",
            *(f"{row[kind]:,}" for kind in kinds),
            f"{sum(row[kind] for kind in kinds):,}",
        ]
        for row in rows
    ]
    return ["where", *(part_name(kind, None) for kind in kinds), "all"], lines


def _print_hub(hub: HubCount) -> None:
    made = table(f"models that {escape(hub.endpoint)} lists", ["by", "name"], ["models"])
    for row in _most(hub):
        made.add_row(*map(escape, row))
    console().print(made)


def _most(hub: HubCount) -> list[list[str]]:
    """The largest counts of each kind, as cells."""
    rows = []
    for kind, counts in breakdown(hub).items():
        rows += [[kind, name, f"{models:,}"] for name, models in list(counts.items())[:MOST]]
        if len(counts) > MOST:
            rows.append([kind, f"{len(counts) - MOST} others: see --json", ""])
    return rows


def breakdown(hub: HubCount) -> dict[str, dict[str, int]]:
    """Models by category of all; by size and by language of those for text generation."""
    return {
        kind: counts
        for of in hub.listed
        for kind in ("category", "size", "language")
        if (counts := of.matching(kind))
    }


def page(found: Universe, drawing: Drawing, hub: HubCount | None = None) -> str:
    """The picture and the tables as Markdown, alt text included.

    Args:
        found: the universe.
        drawing: its picture, which lies beside the page.
        hub: the count on the hub, if there is one.

    Returns:
        The page's text.
    """
    headings = [*LEFT, *RIGHT, LAST]
    parts = [
        f"# The weight universe around {_plain(found.name)}",
        f"![{_plain(drawing.alt)}]({drawing.name}.png)",
        f"*{_plain(drawing.caption)}*",
        _table(headings, [level_cells(row) for row in found.rows()], numbers=range(2, 5)),
        "\n".join(f"- Note: {_plain(line)}" for line in found.findings),
    ]
    if hub is not None:
        parts.append(_table(["models by", "name", "models"], _most(hub), numbers=range(2, 3)))
    if found.search is not None:
        parts += [f"**{of.title}** {_plain(of.text)}" for of in answer(found.search)]
        if rows := places(found.search):
            headings, cells = place_cells(rows)
            parts.append(_table(headings, cells, numbers=range(1, len(headings))))
    if brief := found.brief():
        columns = ["quantity", "brief", "exact", "difference", "why"]
        cells = [[_count(row[name]) for name in columns] for row in brief]
        headings = ["GPT-2", "the study", "exact", "difference", "why"]
        parts.append(_table(headings, cells, numbers=range(1, 4)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: range) -> str:
    """A table of Markdown; columns of numbers are set to the right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(headings))]
    lines = [list(headings), rule, *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text)
    return " ".join(escaped.split())
