"""Progress bars: on long work, for eyes only."""

import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from tqdm import TqdmWarning

with warnings.catch_warnings():  # a notebook without ipywidgets has bars of text
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

DELAY = 1.0
"""Seconds that work may take without a bar."""


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """A `tqdm` bar that comes after a second, on standard error, and goes when it is done.

    In a pipe or a log there is none. A notebook has the bar of `tqdm.notebook`, removed at its
    end, so that one loop never leaves two.

    Args:
        items: what to walk through; None for a bar that is moved by hand.
        options: of `tqdm`: `desc`, `unit`, `total`, `initial`.

    Returns:
        The bar; walk through it, or call its `update` and `close`.
    """
    return tqdm(items, delay=DELAY, leave=False, disable=not is_watched(), **options)


def is_watched() -> bool:
    """Whether somebody looks: a terminal, or a notebook."""
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    return "JPY_PARENT_PID" in os.environ and "ipykernel" in sys.modules
