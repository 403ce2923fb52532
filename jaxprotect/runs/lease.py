"""A lease on a folder of an object store: the object `lock` in it, which names the one who writes.

Object stores have no locks that end with a process. So the holder writes the time into `lock` every
minute; a lease that nobody renewed for ten minutes, or whose process is gone from this machine, is
taken over. A holder that finds another one's name there stops.

Who comes after a process that was killed elsewhere waits for those ten minutes; who comes while it
lives sees a sign of life within a minute, and is refused.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.progress import tell

LOCK = "lock"
RENEW = 60.0
"""Seconds between two signs of life."""

STALE = 600.0
"""Seconds without one after which a lease is free."""

LOOK = 10.0
"""Seconds between two looks for a sign of life."""

SETTLE = 2.0
"""Seconds after which two that took over the same lease at once see who has it."""


class HeldError(InputError):
    """Another process holds the lease."""


class LostError(InputError):
    """Another process took the lease over."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease.

    Args:
        token: different for every lease.
        host: name of the machine.
        pid: the process.
        machine: equal where `pid` means the same process; empty if that cannot be known.
        time: of the last sign of life, in seconds since 1970.
        fills: whether all that lies beside the lock is of this holder, and unfinished.
    """

    token: str
    host: str
    pid: int
    machine: str
    time: float
    fills: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_gone(self) -> bool:
        """Whether the lease is free to be taken over."""
        if time.time() - self.time > STALE:
            return True
        return (
            self.is_here and self.pid != os.getpid() and not Path("/proc", str(self.pid)).exists()
        )

    def __str__(self) -> str:
        """Such as `host tpu-3, process 1234, last sign of life 20 s ago`."""
        ago = max(0, round(time.time() - self.time))
        return f"host {self.host}, process {self.pid}, last sign of life {ago} s ago"


class Lease:
    """A lease that is held; a thread renews it until `end`.

    `after_unfinished` says whether it was taken over from one that had called `fill`.

    Args:
        fs: an fsspec file system.
        path: of the lock.
        what: what is written under it, for messages.

    Raises:
        HeldError: another process holds it.
    """

    def __init__(self, fs: Any, path: str, what: str) -> None:
        self._fs, self._path, self._what = fs, path, what
        self._lost: Holder | str | None = None
        self._holder, before = _take(fs, path, what)
        self.after_unfinished = isinstance(before, Holder) and before.fills
        self._renewing, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LostError unless the lease is held, also after the machine was asleep."""
        if self._lost is None and time.time() - self._holder.time > STALE - 2 * RENEW:
            self._renew()
        if self._lost is not None:
            raise LostError(
                f"{self._what} was taken over by another process ({self._lost}), as this one was "
                f"not heard of for {STALE / 60:g} minutes; what it uploaded until then is kept"
            )

    def fill(self) -> None:
        """Leave word, should this process be killed, that what lies there is unfinished."""
        self._renew(fills=True)
        self.check()

    def end(self) -> None:
        """Stop renewing, and free the lease if it is still held."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # nobody waits longer than `STALE` for it
            if _token(_read(self._fs, self._path)) == self._holder.token:
                self._fs.rm_file(self._path)

    def _keep(self) -> None:
        while not self._stop.wait(RENEW):
            with contextlib.suppress(Exception):  # a network that is away comes back
                self._renew()
            if self._lost is not None:
                # What is computed can no longer be kept; a real signal also ends a wait.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    def _renew(self, **changes: bool) -> None:
        with self._renewing:
            found = _read(self._fs, self._path)
            if _token(found) != self._holder.token:
                self._lost = found or "which has finished"
                return
            holder = replace(self._holder, time=time.time(), **changes)
            self._fs.pipe_file(self._path, _bytes(holder))
            self._holder = holder


@contextlib.contextmanager
def leased(fs: Any, path: str, what: str) -> Iterator[Lease]:
    """Hold a lease.

    Args:
        fs: an fsspec file system.
        path: of the lock.
        what: what is written under it, for messages.

    Yields:
        The lease.

    Raises:
        HeldError: another process holds it.
        LostError: another process took it over meanwhile.
    """
    lease = Lease(fs, path, what)
    try:
        yield lease
    except KeyboardInterrupt:
        lease.check()  # the interrupt may be ours
        raise
    finally:
        lease.end()


def _take(fs: Any, path: str, what: str) -> "tuple[Holder, Holder | str | None]":
    """The new holder, and the one whose place it takes."""
    before = _wait_for_life(fs, path, what)
    if isinstance(before, Holder) and not before.is_gone:
        raise _held(what, before)
    holder = Holder(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        time=time.time(),
    )
    if before is not None:
        fs.rm_file(path)
    found = _created(fs, path, holder)
    if before is not None and _token(found) == holder.token:
        time.sleep(SETTLE)
        found = _read(fs, path)
    if _token(found) != holder.token:
        raise _held(what, found)
    return holder, before


def _wait_for_life(fs: Any, path: str, what: str) -> "Holder | str | None":
    """Who holds the lease, once it is known whether that process lives."""
    first = _read(fs, path)
    if not isinstance(first, Holder) or first.is_here or first.is_gone:
        return first
    tell(f"{what} has the lock of another process ({first}); waiting for a sign of it")
    until = time.monotonic() + STALE
    while time.monotonic() <= until:
        time.sleep(LOOK)
        found = _read(fs, path)
        if found != first or first.is_gone:  # it has renewed or freed the lease, or will not
            return found
    return replace(first, time=0.0)  # its clock is ahead of this one


def _created(fs: Any, path: str, holder: Holder) -> "Holder | str | None":
    """Make the lock if there is none; who holds it then."""
    try:
        with fs.open(path, "xb") as file:
            file.write(_bytes(holder))
    except Exception:  # every store has its own error for what is there already
        if (found := _read(fs, path)) is None:
            raise
        return found
    return _read(fs, path)


def _held(what: str, by: "Holder | str | None") -> HeldError:
    return HeldError(
        f"{what} is being written by another process ({by or 'which just began'}); wait for it, "
        "or give another folder"
    )


def _read(fs: Any, path: str) -> "Holder | str | None":
    """Who holds the lease; a text if that is not said, None if nobody does."""
    fs.invalidate_cache()
    try:
        data = fs.cat_file(path)
    except FileNotFoundError:
        return None
    kinds: dict[str, Any] = {"token": str, "host": str, "pid": int, "machine": str}
    kinds |= {"time": (int, float), "fills": bool}
    with contextlib.suppress(ValueError, TypeError):
        holder = Holder(**json.loads(data))
        if all(isinstance(getattr(holder, name), kind) for name, kind in kinds.items()):
            return holder
    # Run folders on a disk have an empty lock, which may have been copied along.
    return "which does not say its name"


def _token(found: "Holder | str | None") -> str | None:
    return found.token if isinstance(found, Holder) else None


def _bytes(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _machine() -> str:
    """What tells machines and containers apart, or nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
