"""A disk that fails where it is told to: operations on the files of a folder are counted."""

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class _File:
    """A file whose writes are counted; one that fails has written half of its data."""

    def __init__(self, file: Any, step: Callable[[Callable[[], object]], None]):
        self._file, self._step = file, step

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._step(half)
        return self._file.write(data)


@contextlib.contextmanager
def faulty_disk(
    folder: Path, when: Callable[[int], bool], fail: Callable[[], None]
) -> Iterator[Callable[[], int]]:
    """Fail at chosen operations: open for writing, write, fsync, rename, make a folder.

    Args:
        folder: operations elsewhere are left alone.
        when: whether the operation of this number, from 1, fails.
        fail: raises, or ends the process.

    Yields:
        How many operations there were.
    """
    count = 0

    def step(before: Callable[[], object] = lambda: None) -> None:
        nonlocal count
        count += 1
        if when(count):
            before()
            fail()

    def below(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(str(folder))

    def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not below(path) or mode.startswith("r") or Path(path).name == "lock":
            return real_open(path, mode, *args, **options)
        step()
        return _File(real_open(path, mode, *args, **options), step)

    def counted(real: Callable[..., Any], *, descriptor: bool = False) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if descriptor or below(path):
                step()
            return real(path, *args, **options)

        return call

    real_open = io.open
    with (
        mock.patch.object(io, "open", opened),
        mock.patch.object(builtins, "open", opened),
        mock.patch.object(os, "fsync", counted(os.fsync, descriptor=True)),
        mock.patch.object(os, "replace", counted(os.replace)),
        mock.patch.object(os, "rename", counted(os.rename)),
        mock.patch.object(os, "mkdir", counted(os.mkdir)),
    ):
        yield lambda: count
