"""A local folder and its copy in an object store, which at any moment can be continued from.

A store has neither append nor rename: files go there whole, one after the other, and the process
may be killed between two of them. So what names other files is read before they are looked for,
and goes after them.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from jaxprotect.disk import make_folder
from jaxprotect.models.folders import file_in
from jaxprotect.progress import progress

FIRST, DATA, NAMES, TABLES, LAST = range(5)
"""The order of an upload."""

AT_ONCE = 32
"""Files that are downloaded together."""

Stamp = tuple[int, int, int]


class Mirror:
    """A folder and its copy.

    Args:
        fs: an fsspec file system.
        root: the copy's path there.
        folder: the local folder.
    """

    def __init__(self, fs: Any, root: str, folder: Path) -> None:
        self._fs, self._root, self._folder = fs, root, folder
        self._uploaded: dict[str, Stamp] = {}

    def listed(self) -> list[str]:
        """Names of the files in the store that belong to the folder."""
        self._fs.invalidate_cache()
        found = (path.removeprefix(self._root).lstrip("/") for path in self._fs.find(self._root))
        return [name for name in found if name and not name.endswith("/") and not _is_ours(name)]

    def clear(self) -> None:
        """Remove what the store has."""
        for name in sorted(self.listed(), key=_rank, reverse=True):
            self._fs.rm_file(f"{self._root}/{name}")

    def download(self) -> None:
        """Fetch what the store has: what names other files before them."""
        make_folder(self._folder)
        names = sorted(self.listed(), key=_rank, reverse=True)
        bar = progress(total=len(names), desc="download", unit="file")
        while names:
            some = [name for name in names[:AT_ONCE] if _rank(name) == _rank(names[0])]
            names = names[len(some) :]
            paths = [file_in(self._folder, name) for name in some]
            for path in paths:
                make_folder(path.parent)
            self._fs.get([f"{self._root}/{name}" for name in some], [str(p) for p in paths])
            self._uploaded |= {
                name: _stamp(path.stat()) for name, path in zip(some, paths, strict=True)
            }
            bar.update(len(some))
        bar.close()

    def upload(self, check: Callable[[], None]) -> None:
        """Send what changed since the last time, and delete what is gone.

        Args:
            check: called before each file; raises if nothing may be written any more.
        """
        naming = sorted(
            (name for name in self._changed() if _rank(name) != DATA), key=_rank, reverse=True
        )
        contents: dict[str, tuple[Stamp, bytes]] = {}
        for name in naming:
            with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as file:
                contents[name] = _stamp(os.fstat(file.fileno())), file.read()
        data = [name for name in self._changed() if _rank(name) == DATA]
        there = set(files_of(self._folder))
        gone = [name for name in self._uploaded if name not in there]
        for name in sorted(gone, key=_rank, reverse=True):
            check()
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{name}")
            del self._uploaded[name]
        order = [(_rank(name, content), name) for name, (_, content) in contents.items()]
        for _, name in sorted([*order, *((DATA, name) for name in data)]):
            check()
            path, target = self._folder / name, f"{self._root}/{name}"
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile: mirrored next time
                if name in contents:
                    stamp, content = contents[name]
                    self._fs.pipe_file(target, content)
                else:
                    stamp = _stamp(path.stat())
                    self._fs.put_file(str(path), target)
                self._uploaded[name] = stamp

    def _changed(self) -> list[str]:
        found = []
        for name in files_of(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if self._uploaded.get(name) != _stamp((self._folder / name).stat()):
                    found.append(name)
        return found


def _rank(name: str, content: bytes | None = None) -> int:
    """When a file goes: a run's manifest first, as nothing else is continued without one."""
    path = PurePosixPath(name)
    if path.name == "manifest.json" and content is not None:
        with contextlib.suppress(ValueError, TypeError):
            # That of statistics names their trees, that of a packed model its arrays.
            return FIRST if "experiments" in json.loads(content) else NAMES
    if path.name in ("manifest.json", "results.jsonl"):
        return NAMES
    if path.name in ("summary.json", "report.html"):
        return LAST
    return TABLES if path.suffix == ".csv" else DATA


def files_of(folder: Path) -> Iterator[str]:
    """Names of a folder's files, without locks and what is unfinished."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_ours(name)]
        for name in files:
            if not _is_ours(name):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _is_ours(name: str) -> bool:
    """Whether a file is only for the process that writes: a lock, or unfinished."""
    return any(
        part == "lock" or (part.startswith(".") and part.endswith((".tmp", ".lock")))
        for part in PurePosixPath(name).parts
    )


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino
