"""Self-contained HTML pages: templates filled in, and a page of questions and answers."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.findings import Finding
from jaxprotect.runs.language_choices import language_choices
from jaxprotect.runs.report_tables import Cell, Table
from jaxprotect.runs.results import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One question of a study and its answer.

    Args:
        title: the question.
        text: the answer, by paragraph.
        findings: the answer in short, each on a card of its own, above the text.
        drawings: figures that show it.
        tables: the numbers.
        facts: names and values, below.
    """

    title: str
    text: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def render(template: str, **values: Any) -> bytes:
    """Fill in a template of this package; a value that is missing is an error.

    Args:
        template: file name.
        values: what it needs.

    Returns:
        The page in UTF-8; the same values give the same bytes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.get_template(template).render(**values).encode()


def write_study(
    path: Path, *, title: str, lead: str, sections: Sequence[Section], damages: bool = True
) -> Path:
    """Write a page of questions and answers that needs nothing else.

    Args:
        path: the HTML file.
        title: of the page.
        lead: what was measured, in a sentence or two.
        sections: questions, in order.
        damages: whether the page is about damages; it then ends with how to read them.

    Returns:
        `path`.
    """
    codes = [code for of in sections for table in of.tables for code in table.languages]
    choices = language_choices(codes)
    values = {"title": title, "lead": lead, "sections": sections, "damages": damages}
    page = render("study.html.j2", **values, **choices)
    write_atomically(path, page)
    return path


def plain_table(
    name: str,
    caption: str,
    rows: Sequence[dict[str, str | tuple[str, float | None]]],
    *,
    languages: Sequence[str] = (),
) -> Table:
    """A table of texts, or of texts with the number that they sort by.

    Args:
        name: unique on its page.
        caption: what it holds.
        rows: column -> text, or (text, number); the first column names the row.
        languages: code of each row's language, where rows are languages.

    Returns:
        The table.
    """
    columns = tuple(rows[0]) if rows else ()

    def as_cell(value: str | tuple[str, float | None]) -> Cell:
        text, sort = value if isinstance(value, tuple) else (value, value)
        return Cell(text=text, sort=sort)

    cells = tuple(tuple(as_cell(row[column]) for column in columns) for row in rows)
    return Table(
        name=name, caption=caption, columns=columns, rows=cells, languages=tuple(languages)
    )


def _unbroken(text: str) -> str:
    """A number, its unit and its interval stay on one line."""
    return re.sub(
        r"(?<=\d) (?=%)|(?<=[\d%]) (?=\[)|(?<=\d,) (?=[−\d.]+\])", "\N{NO-BREAK SPACE}", text
    )
