"""URLs where a folder is expected: `gs://bucket/run`, which a `Path` makes `gs:/bucket/run` of."""

import re
from pathlib import Path

# A drive of Windows has one letter.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):(?:/+(.*))?", re.DOTALL)


def url_of(path: Path | str) -> str | None:
    """The URL that was given as a path, or None for an ordinary path.

    Args:
        path: what arrived, perhaps with a slash lost.

    Returns:
        The URL without a slash at its end; `file:` has an absolute path.
    """
    found = _URL.fullmatch(str(path))
    if found is None:
        return None
    protocol, rest = found[1].lower(), (found[2] or "").rstrip("/")
    return f"{protocol}:///{rest}" if protocol in ("file", "local") else f"{protocol}://{rest}"
