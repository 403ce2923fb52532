"""Folders at a URL: worked on in a local copy, which is kept up to date there.

Whatever writes a folder needs locks, appends and renames, which object stores lack. So it writes a
local folder, and this layer takes a lease on the URL, downloads what lies there, and uploads what
changes: every few seconds, and at the end, however that comes.
"""

import contextlib
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec.core
from tqdm import tqdm

from jaxprotect.disk import disk_trouble
from jaxprotect.errors import InputError, reason_of
from jaxprotect.hosts import Terminated
from jaxprotect.progress import tell
from jaxprotect.runs.host_folder import hosts_folder
from jaxprotect.runs.lease import LOCK, HeldError, Lease, LostError, leased
from jaxprotect.runs.mirror import Mirror
from jaxprotect.urls import url_of

SOON, LATEST = 5.0, 30.0
"""Seconds between two uploads, at least and at most; a slow network is not kept busy."""

_open: dict[Path, str] = {}
"""Local copies that are worked on -> their URLs, for messages."""


@contextlib.contextmanager
def working_folder(
    out: Path | str, *, name: str = "out", new: bool = False, shared: bool = False
) -> Iterator[Path]:
    """A local folder to write to; for a URL, a copy of what lies there, kept up to date there.

    Of several hosts the first one has it, the others a copy that is not kept.

    Args:
        out: a folder, which is given back as it is, or a URL such as `gs://bucket/run`; a `Path`
            made of a URL will do.
        name: of the argument, for messages.
        new: refuse a URL that has files, unless they are of a `new` folder that a killed process
            has not finished.
        shared: where another process writes to the URL, read what is there and upload nothing.

    Yields:
        The folder; the copy of a URL is removed at the end.

    Raises:
        InputError: a URL that cannot be reached, or that another process writes to.
    """
    with hosts_folder(lambda: _opened(out, name=name, new=new, shared=shared)) as folder:
        yield folder


@contextlib.contextmanager
def _opened(out: Path | str, *, name: str, new: bool, shared: bool) -> Iterator[Path]:
    """The folder on this host, see `working_folder`."""
    url = url_of(out)
    if url is None:
        yield Path(out)
        return
    what = f"`{name}` {url}"
    fs, root = _file_system(url, name)
    with contextlib.ExitStack() as stack:
        lease = None
        with _reached(what):
            try:
                lease = stack.enter_context(leased(fs, f"{root}/{LOCK}", what))
            except HeldError:
                if not shared:
                    raise
        parent = Path(tempfile.mkdtemp(prefix="jaxprotect-")).resolve()
        folder = parent / Path(root).name
        mirror = Mirror(fs, root, folder)
        _open[folder] = url
        try:
            with _named(folder, url):
                with _reached(what):
                    if new and lease is not None:
                        _make_new(mirror, lease, what)
                    mirror.download()
                if lease is None:
                    yield folder
                else:
                    with _uploaded(mirror, lease, what, folder):
                        yield folder
        except _KeptError as kept:
            parent = None
            if kept.signal is None:
                raise InputError(str(kept)) from kept
            tell(str(kept))
            raise kept.signal from None  # a scheduler is to begin again, which goes on
        finally:
            del _open[folder]
            if parent is not None:
                shutil.rmtree(parent, ignore_errors=True)


@contextlib.contextmanager
def uploaded_file(out: Path | str) -> Iterator[Path]:
    """A local file to write; for a URL, one that is uploaded when the block ends well.

    Args:
        out: a file, which is given back as it is, or a URL.

    Yields:
        The file to write.

    Raises:
        InputError: a URL that cannot be reached.
    """
    url = url_of(out)
    if url is None:
        yield Path(out)
        return
    fs, path = _file_system(url, "out")
    with tempfile.TemporaryDirectory(prefix="jaxprotect-") as parent:
        file = Path(parent).resolve() / Path(path).name
        _open[file] = url
        try:
            yield file
        finally:
            del _open[file]
        with _reached(f"`out` {url}"):
            fs.put_file(str(file), path)


def address(path: Path | str) -> str:
    """Where a path will be found: at its URL if it is in the copy of one.

    Args:
        path: a file or folder.

    Returns:
        A path or URL, to be shown.
    """
    for folder, url in _open.items():
        if Path(path).is_relative_to(folder):
            return "/".join((url, *Path(path).relative_to(folder).parts))
    return url_of(path) or str(path)


def _make_new(mirror: Mirror, lease: Lease, what: str) -> None:
    if lease.after_unfinished:
        mirror.clear()
    if mirror.listed():
        raise InputError(f"{what} exists already; give a new or empty folder")
    lease.fill()


@contextlib.contextmanager
def _uploaded(mirror: Mirror, lease: Lease, what: str, folder: Path) -> Iterator[None]:
    """Upload while the block runs, and when it ends, however it does."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_keep_uploading, args=(mirror, lease, what, stop), name="upload", daemon=True
    )
    thread.start()
    signal = None
    try:
        yield
    except (KeyboardInterrupt, Terminated) as came:
        signal = came
        raise
    finally:
        stop.set()
        thread.join()
        try:
            with _reached(what):
                mirror.upload(lease.check)
        except InputError as error:
            ended = None if isinstance(error, LostError) else signal  # that interrupt was ours
            raise _KeptError(f"{error}; what is not uploaded lies in {folder}", ended) from error


def _keep_uploading(mirror: Mirror, lease: Lease, what: str, stop: threading.Event) -> None:
    pause, told = SOON, False
    while not stop.wait(pause):
        start = time.monotonic()
        try:
            mirror.upload(lease.check)
            told = False
        except LostError:
            return
        except Exception as error:  # networks go and come back; the last upload raises
            if not told:
                tqdm.write(f"{what} cannot be reached now: {_said(error)}", file=sys.stderr)
            told = True
        pause = min(LATEST, max(SOON, 4 * (time.monotonic() - start)))


class _KeptError(Exception):
    """The last upload failed, and the local copy has to stay.

    Args:
        said: in one line.
        signal: what had ended the work before, if it was one.
    """

    def __init__(self, said: str, signal: BaseException | None) -> None:
        super().__init__(said)
        self.signal = signal


def _file_system(url: str, name: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    protocol, _, rest = url.partition("://")
    if not rest.strip("/"):
        raise InputError(f"`{name}` is {url!r}; allowed: a folder, or a URL like gs://bucket/run")
    local = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        fs, path = fsspec.core.url_to_fs(url, **local)
    except ImportError as error:
        how = "; pip install 'jaxprotect[gcs]'" if protocol in ("gs", "gcs") else ""
        raise InputError(f"`{name}` is {url!r}: {reason_of(error)}{how}") from None
    except ValueError as error:
        raise InputError(
            f"`{name}` is {url!r}: {reason_of(error)}; allowed: a folder, or a URL like "
            "gs://bucket/run or s3://bucket/run"
        ) from None
    except Exception as error:
        raise _unreached(f"`{name}` {url}", error) from error
    logger = logging.getLogger(type(fs).__module__.partition(".")[0])
    if logger.level == logging.NOTSET:  # a traceback is logged for what is raised all the same
        logger.setLevel(logging.CRITICAL + 1)
    return fs, path


@contextlib.contextmanager
def _reached(what: str) -> Iterator[None]:
    """Say in one line what a store refuses; every one has errors of its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise _unreached(what, error) from error


def _unreached(what: str, error: Exception) -> InputError:
    return InputError(
        f"{what} cannot be reached: {_said(error)}; give a bucket that exists, and credentials "
        "that may read and write there"
    )


def _said(error: Exception) -> str:
    reason, kind = reason_of(error), type(error).__name__
    return reason if reason == kind else f"{kind}: {reason}"


@contextlib.contextmanager
def _named(folder: Path, url: str) -> Iterator[None]:
    """Name the URL in errors, not its copy, unless it is the copy's disk that is to blame."""
    try:
        yield
    except InputError as error:
        text, cause = str(error), error.__cause__
        if str(folder) not in text:
            raise
        if isinstance(cause, Exception) and disk_trouble(cause):
            said = f"{text} ({url} is worked on there; TMPDIR names the disk)"
        else:
            said = text.replace(str(folder), url)
        raise InputError(said) from error
