"""CSV files of ours as they may be trusted: the columns and types that they were written with."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.models.folders import file_in

Kinds = Mapping[str, tuple[type, ...]]
"""Column -> its types; `NoneType` where it may be empty."""


def read_csv(path: Path, kinds: Kinds) -> list[dict[str, Any]]:
    """A table as `write_csv` writes it.

    Args:
        path: the file.
        kinds: the columns to read, each str, int, float or bool, and perhaps `NoneType`.

    Returns:
        One row per line, with these columns.

    Raises:
        InputError: no such file, a column that is missing, or a value of another type.
    """
    try:
        text = file_in(path.parent, path.name).read_bytes().decode()
        lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"`{path}` cannot be read: {error}") from None
    if not lines:
        raise InputError(f"`{path}` has no rows")
    if missing := [name for name in kinds if name not in lines[0]]:
        raise InputError(
            f"`{path}` has no column {missing[0]}; the command that wrote it, again, adds it"
        )
    return [
        {name: _value(line[name], of, f"`{path}:{number}` {name}") for name, of in kinds.items()}
        for number, line in enumerate(lines, 2)
    ]


def _value(text: str | None, kinds: tuple[type, ...], where: str) -> Any:
    kind: Any = kinds[0]
    if text is None:
        raise InputError(f"{where} is missing; the line is too short")
    if text == "" and NoneType in kinds:
        return None
    try:
        if kind is bool:
            return {"True": True, "False": False}[text]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except (KeyError, ValueError):
        raise InputError(f"{where} is {text!r}; expected {kind.__name__}") from None
    return value
