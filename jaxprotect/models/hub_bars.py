"""The bar of a download from the hub."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.asyncio import tqdm_asyncio as tqdm  # what huggingface_hub asks for

from jaxprotect import progress


@contextmanager
def download_bar(desc: str) -> Iterator[type[tqdm]]:
    """A `tqdm_class` for `snapshot_download` that keeps to the rules of `progress`.

    Of its three bars, of files, of bytes received and of bytes written, only the last is shown.

    Args:
        desc: what is fetched.

    Yields:
        The class; its bars are closed when the block ends, which `snapshot_download` does not do.
    """
    opened: list[tqdm] = []

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            shown = str(options.get("desc")).startswith("Reconstructing")
            own = {"desc": desc, "bar_format": None, "leave": False, "delay": progress.DELAY}
            hidden = not shown or progress.is_hidden()
            super().__init__(*args, **options | own | {"disable": hidden})
            opened.append(self)

        def refresh(self, *args: Any, **options: Any) -> None:
            """As tqdm's, but a bar that is refreshed by hand waits for its second too."""
            if not self.disable and time.time() >= self.start_t + progress.DELAY:
                super().refresh(*args, **options)

        def set_description(self, *args: Any, **options: Any) -> None:
            """What is fetched stays the description."""

        set_description_str = set_description

    try:
        yield Bar
    finally:
        for bar in opened:
            bar.close()
