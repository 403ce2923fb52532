"""The first host's folder, for all of them: the others work in a private copy, which they drop.

So hosts need no disk in common, every one of them sees the same finished rows, and only the first
one's are kept. Statistics, which may be large, are not copied: the first host reads them for all.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from jaxprotect import hosts
from jaxprotect.disk import make_folder
from jaxprotect.models.folders import file_in
from jaxprotect.runs.mirror import files_of

_ORBAX = "_CHECKPOINT_METADATA"
"""The file that says that a folder is an Orbax save."""


@contextlib.contextmanager
def hosts_folder(
    opened: Callable[[], contextlib.AbstractContextManager[Path]],
) -> Iterator[Path]:
    """A folder to work in, on every host.

    Args:
        opened: opens it; called on the first host alone.

    Yields:
        On the first host the folder itself, elsewhere a copy.

    Raises:
        InputError: what `opened` raises, on every host.
    """
    with hosts.first_leaves_first() as leaving, contextlib.ExitStack() as stack:
        if not hosts.several():
            yield stack.enter_context(opened())
            return
        mine: list[Path] = []

        def names() -> list[str]:
            mine.append(stack.enter_context(opened()))
            stack.callback(leaving)  # before the folder is closed, which may upload it
            return _small_files(mine[0])

        listed = hosts.told(names)
        if not hosts.is_first():
            parent = stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxprotect-"))
            mine.append(Path(parent) / "copy")
        for name in listed:
            path = file_in(mine[0], name)
            data = hosts.told_bytes(path.read_bytes() if hosts.is_first() else b"")
            if not hosts.is_first():
                make_folder(path.parent)
                path.write_bytes(data)
        yield mine[0]


def _small_files(folder: Path) -> list[str]:
    """Names of the files that are not of an Orbax save."""
    names = sorted(files_of(folder))
    saves = {PurePosixPath(name).parent for name in names if PurePosixPath(name).name == _ORBAX}
    return [name for name in names if saves.isdisjoint(PurePosixPath(name).parents)]
