"""What a disk refuses, in one line; folders that one process writes at a time."""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from jaxprotect.errors import InputError
from jaxprotect.hosts import told
from jaxprotect.urls import url_of

_FULL = "make room, or give another folder; what is finished is kept, the same command continues it"
_CLOSED = "give a folder that can be written"
_BROKEN = "check the disk; what is finished is kept, the same command continues it"
ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOTDIR: _CLOSED,
    errno.EISDIR: _CLOSED,
    errno.ENOTEMPTY: "give a new or empty folder",
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
}
"""What to do about the errors that a disk, and not a mistake of ours, is the reason of."""

# Rust and C++ raise exceptions of their own, which name the number: "(os error 28)",
# "[os_error_code='28']".
_NUMBER = re.compile(r"os[ _]error(?:_code)?[ =:']*(\d+)", re.IGNORECASE)


def disk_trouble(error: Exception) -> str | None:
    """`No space left on device; make room, ..`, or None if a disk is not the reason.

    Args:
        error: what a library or the system raised.

    Returns:
        What the disk says, and what to do.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])
    return f"{os.strerror(number)}; {ADVICE[number]}" if number in ADVICE else None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line what a disk refuses while a file or folder is written.

    Args:
        path: what is written; the message names it.

    Yields:
        Nothing.

    Raises:
        InputError: the disk is full, broken or read-only.
    """
    try:
        yield
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        raise InputError(f"{path} cannot be written: {trouble}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there stays.

    Args:
        folder: the folder.

    Raises:
        InputError: it cannot be made, or is a URL.
    """
    if (url := url_of(folder)) is not None:
        raise InputError(
            f"{url} is a URL; allowed: a local folder, such as `jaxprotect.working_folder` gives"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unmade(folder, error) from error


def _unmade(path: Path, error: OSError) -> InputError:
    # Places like /proc say "no such file" where nothing can be made.
    trouble = disk_trouble(error) or f"{error.strerror}; {_CLOSED}"
    return InputError(f"{path} cannot be made: {trouble}")


@contextlib.contextmanager
def locked(path: Path, what: str, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock file; the system frees it when the process ends, however it ends.

    Of several hosts the first one holds it.

    Args:
        path: the lock file; made if it is not there.
        what: what is written under it, for the message.
        remove: take the file away at the end.

    Yields:
        Nothing.

    Raises:
        InputError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        told(lambda: _lock(path, what, stack, remove=remove))
        yield


def _lock(path: Path, what: str, stack: contextlib.ExitStack, *, remove: bool) -> None:
    """Take a lock until the stack ends; see `locked`."""
    try:
        file = stack.enter_context(path.open("w"))
    except OSError as error:
        raise _unmade(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before may have taken the file away between the two lines above.
        held = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except BlockingIOError:
        held = False
    except OSError as error:
        raise InputError(
            f"{path} cannot be locked: {error.strerror}; give a folder on a disk with locks"
        ) from error
    if not held:
        raise InputError(
            f"{what} is being written by another process; wait for it, or give another folder"
        )
    if remove:
        stack.callback(path.unlink, missing_ok=True)
