"""Folders that are written whole or not at all, and read without leaving them."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxprotect.disk import locked, make_folder, writing
from jaxprotect.errors import InputError


def refuse_used_folder(name: str, folder: Path) -> None:
    """Refuse a folder that has files.

    Args:
        name: the argument's name, for the message.
        folder: where something new is to be written.

    Raises:
        InputError: it is a file, or holds files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`{name}` {folder} exists already; give a new or empty folder")


def file_in(folder: Path, name: str) -> Path:
    """The path of a file of a folder, which neither `..` nor a link leads out of.

    The folder itself may be a link. The hub cache keeps
    `models--<owner>--<name>/snapshots/<revision>/<file>` as links to `models--.../blobs/<hash>`.

    Args:
        folder: the folder.
        name: the file's path in it.

    Returns:
        The path; a file need not be there.

    Raises:
        InputError: the name leads out of the folder, or to a pipe or device.
    """
    path = folder / name
    try:
        root, target = folder.resolve(), path.resolve()
        strange = target.exists() and not (target.is_file() or target.is_dir())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
        raise InputError(f"`{folder}` can have no file {name!r}") from None
    cached = root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--")
    blobs = root.parent.parent / "blobs" if cached else root
    outside = not (target.is_relative_to(root) or target.is_relative_to(blobs))
    if outside or ".." in Path(name).parts or Path(name).is_absolute():
        raise InputError(f"`{folder}`: {name!r} leads out of it; allowed: files inside the folder")
    if strange:  # a pipe would be waited for
        raise InputError(f"`{path}` is no regular file")
    return path


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, next to the one wanted; on disk under its name when the block ends.

    Args:
        folder: a new or empty folder.

    Yields:
        The unfinished folder; it is removed if the block fails, and by the next one that is
        asked for if the process was killed.

    Raises:
        InputError: another process writes it, it has files, or the disk refuses.
    """
    make_folder(folder.parent)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, f"`folder` {folder}", remove=True):
        refuse_used_folder("folder", folder)
        try:
            with writing(folder):
                shutil.rmtree(unfinished, ignore_errors=True)
                make_folder(unfinished)
                yield unfinished
                for path in unfinished.iterdir():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
                unfinished.replace(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
