"""A file of published counts of the ecosystem, in TOML: who said how much, and when.

[[estimate]]
level = 1                  # 0 to 3
name = "text generation"
models = 1234              # models, weights, or both: whole numbers
source = "https://..."     # where it stands
date = 2026-01-31          # of the count, not of the reading
part_of = "all models"     # only where the parts of that row are to sum to it
"""

import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError, reason_of, refuse_unknown
from jaxprotect.models.hub_tally import LEVELS
from jaxprotect.runs.ecosystem import KINDS, Amount

LARGEST = 10**24
"""Of a count."""

KEYS = ("level", "name", *KINDS, "source", "date", "part_of")


def read_estimates(path: Path, *, today: date | None = None) -> tuple[list[Amount], list[str]]:
    """The rows of a file, and what is wrong with what they say.

    Args:
        path: the file.
        today: later dates are told; the day of the call by default.

    Returns:
        The rows, in order; counts that are none are left out of them. And a sentence for each
        count, source or date that is missing or wrong. What contradicts what is for
        `contradictions` to say, as other sources may be beside the file.

    Raises:
        InputError: no such file, no TOML, no rows, or a row of unknown keys, level or name.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"`estimates` {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML
        raise InputError(f"`estimates` {path} is no TOML: {reason_of(error)}") from None
    refuse_unknown(f"estimates {path}", content, ["estimate"])
    rows = content.get("estimate")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"`estimates` {path} has no rows; expected tables under [[estimate]]")
    amounts: list[Amount] = []
    findings: list[str] = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        amounts.append(_amount(row, where, today or date.today(), findings))
    names = {of.name for of in amounts}
    for number, of in enumerate(amounts, 1):
        if of.part_of is not None and of.part_of not in names - {of.name}:
            raise InputError(f"`{path}, row {number}` is part of {of.part_of!r}, which has no row")
    return amounts, findings


def _amount(row: dict[str, Any], where: str, today: date, findings: list[str]) -> Amount:
    """A row; what it lacks is added to the findings."""
    refuse_unknown(where, row, KEYS)
    level, name, part_of = (row.get(key) for key in ("level", "name", "part_of"))
    if type(level) is not int or level not in LEVELS:
        raise InputError(f"`{where}` has level {level!r}; allowed are 0 to {max(LEVELS)}")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"`{where}` has name {name!r}; expected what is counted, as text")
    if part_of is not None and not isinstance(part_of, str):
        raise InputError(f"`{where}` has part_of {part_of!r}; expected the name of another row")
    said = f"level {level}, {name}"
    counts: dict[str, int | None] = {}
    for kind in KINDS:
        count = row.get(kind)
        right = type(count) is int and 0 <= count <= LARGEST
        counts[kind] = count if right else None
        if count is not None and not right:
            findings.append(f"{said}: {kind} is {count!r}, no whole number from 0; not used")
    if not any(kind in row for kind in KINDS):
        findings.append(f"{said}: no count, neither of models nor of weights")
    source = row.get("source")
    if not isinstance(source, str) or not source.strip():
        findings.append(f"{said}: no source")
        source = ""
    return Amount(
        level=level,
        name=name,
        models=counts["models"],
        weights=counts["weights"],
        source=source,
        date=_date(row.get("date"), said, today, findings),
        part_of=part_of,
    )


def _date(value: Any, said: str, today: date, findings: list[str]) -> str:
    """The ISO date; empty, and told, if there is none."""
    if value is None:
        findings.append(f"{said}: no date")
        return ""
    try:
        day = value if isinstance(value, date) else date.fromisoformat(value)
    except (TypeError, ValueError):
        findings.append(f"{said}: date {value!r} is no ISO date such as 2026-01-31")
        return ""
    day = day.date() if isinstance(day, datetime) else day
    if day > today:
        findings.append(f"{said}: date {day.isoformat()} has not come yet")
    return day.isoformat()
