"""What the commands share: kinds of options, and JSON on the terminal."""

import json
from typing import Any, Literal

import tyro

Split = Literal["select", "tune", "test", "all"]
Flat = tyro.conf.arg(name="")
"""Options of a nested dataclass without a prefix."""


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinity are errors, not text."""
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))
