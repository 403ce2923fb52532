"""Progress bars: on long work, for eyes only."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from jaxprotect.hosts import is_first

DELAY = 1.0
"""Seconds that work may take without a bar."""


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """A `tqdm` bar that comes after a second, on standard error, and goes when it is done.

    In a pipe or a log there is none. A notebook shows one at a time, the outermost, as a line of
    text that is wiped: a widget would stay in the file when it is closed, and nested lines too.

    Args:
        items: what to walk through; None for a bar that is moved by hand.
        options: of `tqdm`: `desc`, `unit`, `total`, `initial`.

    Returns:
        The bar; walk through it, or call its `update` and `close`.
    """
    return tqdm(items, delay=DELAY, leave=False, disable=is_hidden(), **options)


def tell(line: str) -> None:
    """A line on standard error, above the bars if there are any: pipes and logs have it too.

    Of several hosts the first one says it.
    """
    if is_first():
        tqdm.write(line, file=sys.stderr)


def is_hidden() -> bool:
    """Whether a new bar is not to be seen: nobody looks, or a notebook shows one already."""
    return not is_watched() or (in_notebook() and bool(getattr(tqdm, "_instances", ())))


def is_watched() -> bool:
    """Whether somebody looks: a terminal, or a notebook; of several hosts, the first one's."""
    return (sys.stderr.isatty() or in_notebook()) and is_first()


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    return "JPY_PARENT_PID" in os.environ and "ipykernel" in sys.modules
