"""One headless Chromium for all tests of pages; skipped without one, unless it is required."""

import os
import shutil
from collections.abc import Iterator

import pytest

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def no_browser(reason: str) -> None:
    """Skip, or fail where `JAXPROTECT_BROWSER=required` says that there must be a browser."""
    if os.environ.get("JAXPROTECT_BROWSER") == "required":
        pytest.fail(f"JAXPROTECT_BROWSER=required, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A running Chromium."""
    found = (os.environ.get("CHROMIUM"), *map(shutil.which, NAMES))
    path = next((path for path in found if path), None)
    if path is None:
        no_browser("there is no Chromium; install it, or give its path in CHROMIUM")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        no_browser("playwright is not installed; it is in the extra `test`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()
