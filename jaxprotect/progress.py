"""Progress bars: on long work, for eyes only."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

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
    hidden = not is_watched() or (in_notebook() and bool(getattr(tqdm, "_instances", ())))
    return tqdm(items, delay=DELAY, leave=False, disable=hidden, **options)


def is_watched() -> bool:
    """Whether somebody looks: a terminal, or a notebook."""
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    return "JPY_PARENT_PID" in os.environ and "ipykernel" in sys.modules
