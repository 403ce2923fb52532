"""Tables whose rows are languages: the answer's, one variant's, and the heat map of all."""

from typing import Any

from jaxprotect.runs.comparisons import Group, Row
from jaxprotect.runs.findings import describe
from jaxprotect.runs.report_tables import Cell, Table
from jaxprotect.runs.wording import cell, number, percent, relative_cell, with_interval

LANGUAGE_COLUMNS = (
    "Language",
    "Relative damage",
    "At most, all languages at once",
    "Damage, nats per sentence",
    "Original, nats per sentence",
    "Quantized, nats per sentence",
    "Original, bits per byte",
    "Quantized, bits per byte",
    "Tokens per byte",
    "Worse than guessing",
)


def language_table(group: Group, variant: str) -> Table:
    """Every language under one variant, the most damaged first."""
    ordered = _most_damaged_first(group, variant)
    rows = []
    for row in ordered:
        upper = row["relative_upper"]
        plain = ("nats_original", "nats_quantized")
        finer = ("bits_per_byte_original", "bits_per_byte_quantized", "tokens_per_byte")
        rows.append(
            (
                _language_cell(group, row["language"]),
                _relative_cell(row),
                Cell(text="–" if upper is None else percent(upper), sort=upper),
                Cell(text=cell(row, "damage"), sort=row["damage"]),
                *(Cell(text=number(row[key], 2), sort=row[key]) for key in plain),
                *(Cell(text=number(row[key], 3), sort=row[key]) for key in finer),
                Cell(text="yes" if row["destroyed"] else "no", sort=float(row["destroyed"])),
            )
        )
    return Table(
        name="languages",
        caption=(
            "Every language under the chosen variant, the most damaged first. In brackets "
            f"{group.level} intervals of each language alone."
        ),
        columns=LANGUAGE_COLUMNS,
        rows=tuple(rows),
        filter="Filter languages",
        languages=tuple(row["language"] for row in ordered),
    )


def answer_table(group: Group, variant: str, name: str) -> Table:
    """What each language loses unprotected and under one variant, and the paired difference.

    Args:
        group: variants of one quantizer.
        variant: the protection, or what stands for it where there is none.
        name: of the table.

    Returns:
        One row per language, by what it loses under the variant, most first.
    """
    plain = group.plain if group.plain != variant else None
    added = group.added(variant) if plain else {}
    ordered = _most_damaged_first(group, variant)
    rows = []
    for row in ordered:
        code = row["language"]
        cells = [_language_cell(group, code)]
        if plain:
            before, change = group.languages[plain][code], added[code]
            assert change.value is not None
            low, high = (None if end is None else -end for end in (change.high, change.low))
            removed = with_interval(-change.value, low, high, scale=100)
            cells += [_relative_cell(before), _relative_cell(row)]
            cells.append(Cell(text=removed, sort=-change.value))
        else:
            cells.append(_relative_cell(row))
        rows.append((*cells, Cell(text=cell(row, "damage"), sort=row["damage"])))
    words = describe(group, variant)
    if plain:
        columns = ("Unprotected", f"Protecting {words}", "Removed, points")
        caption = f"What each language loses, unprotected and protecting {words}"
        told = f"Removed: paired, in percentage points. In brackets {group.level} intervals."
    else:
        loses = f"Protecting {words}" if group.plain is None else "Unprotected"
        columns, caption = (loses,), f"What each language loses, {loses.lower()}"
        told = f"In brackets {group.level} intervals."
    if group.worst.samples is None:
        told = told.replace(f" In brackets {group.level} intervals.", "")
    return Table(
        name=name,
        caption=f"{caption}: nats added, relative to the original model's. {told}",
        columns=("Language", *columns, "Nats per sentence then"),
        rows=tuple(rows),
        languages=tuple(row["language"] for row in ordered),
    )


def heat_table(group: Group, name: str) -> Table:
    """Relative damage of every language under every variant, as coloured squares.

    Args:
        group: variants of one quantizer.
        name: of the table.

    Returns:
        One row per language, one column per variant: by kind, then by share of the weights.
    """
    first = group.plain or next(iter(group.rows))
    ordered = [row["language"] for row in _most_damaged_first(group, first)]
    kinds = list(dict.fromkeys(what["kind"] for what in group.interventions.values()))
    columns = sorted(
        group.rows,
        key=lambda name: (
            kinds.index(group.interventions[name]["kind"]),
            group.rows[name]["fraction"],
        ),
    )
    # Full colour at the largest damage of plain quantization: what protection has to bring down.
    limit = max(abs(row["relative"]) for row in group.languages[first].values()) or 1.0
    rows = [
        (
            _language_cell(group, code),
            *(_square(group.languages[variant][code]["relative"], limit) for variant in columns),
        )
        for code in ordered
    ]
    return Table(
        name=name,
        caption=(
            f"Relative damage in percent under {group.quantizer}, by what is protected. Orange: "
            f"damage, in full colour from {percent(limit)}; blue, with a minus: less loss than the "
            "original model's. Without intervals, which the table of languages has."
        ),
        columns=("Language", *(describe(group, variant) for variant in columns)),
        rows=tuple(rows),
        filter="Filter protections",
        find="columns",
        languages=tuple(ordered),
        heat=True,
    )


def to_data(table: Table) -> list[list[list[Any]]]:
    """A table's rows as plain lists for the page's script.

    Args:
        table: its rows are languages.

    Returns:
        Each cell as [text, sort, note]; the first of a row with the language's code as well.
    """
    rows: list[list[list[Any]]] = [[[c.text, c.sort, c.note] for c in row] for row in table.rows]
    for row, code in zip(rows, table.languages, strict=True):
        row[0].append(code)
    return rows


def _most_damaged_first(group: Group, variant: str) -> list[Row]:
    return sorted(group.languages[variant].values(), key=lambda row: -row["relative"])


def _language_cell(group: Group, code: str) -> Cell:
    name = group.names[code]
    return Cell(text=name, sort=name, note=code if code != name else "")


def _relative_cell(row: Row) -> Cell:
    return Cell(text=relative_cell(row, "relative"), sort=row["relative"])


def _square(value: float, limit: float) -> Cell:
    share = round(min(1.0, abs(value) / limit), 2)
    look = "more" if value >= 0 else "less"
    return Cell(text=number(100 * value, 2), sort=float(f"{value:.6g}"), look=look, share=share)
