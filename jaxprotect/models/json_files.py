"""JSON files as they may be trusted: one meaning, finite numbers, no bottomless nesting."""

import json
import math
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.models.folders import file_in

DEEPEST = 50
"""Levels of nesting; a file of ours has 5."""

LARGEST = 2**128
"""Of whole numbers, which tokenizers' files use up to 10^30; all are finite as floats."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that must lie in its folder.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        InputError: a link out of its folder, no regular file, no JSON object, or see `parse_json`.
    """
    try:
        data = file_in(path.parent, path.name).read_bytes()
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error}") from None
    content = parse_json(data, str(path))
    if not isinstance(content, dict):
        raise InputError(f"`{path}` holds a {type(content).__name__}; allowed: a JSON object")
    return content


def parse_json(data: bytes | str, name: str) -> Any:
    """What UTF-8 JSON text says, if it can only be read in one way.

    Args:
        data: the text.
        name: where it is from, for messages.

    Returns:
        Its content.

    Raises:
        InputError: no JSON; a key that is set twice, of which a parser would drop one silently;
            numbers that are not finite or beyond `LARGEST`; more than `DEEPEST` levels.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        content = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_whole,
        )
    except InputError as error:
        raise InputError(f"`{name}`: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{name}` is not readable as JSON: {error}") from None
    level = [content]
    for _ in range(DEEPEST):
        nested = [of for of in level if isinstance(of, (dict, list))]
        level = [inner for of in nested for inner in (of.values() if isinstance(of, dict) else of)]
    if level:
        raise InputError(f"`{name}` is nested deeper than {DEEPEST} levels")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the key `{twice}` is set twice; allowed: once")
    return result


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"the number {text} is not finite")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > LARGEST:
        raise InputError(f"the number {text} is beyond 2^128")
    return value
