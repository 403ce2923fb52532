"""Several hosts as one job: one process on each, all running the same program in the same order.

The first host has the folder, the terminal and the say: what it reads or decides, the others are
told. A host that is lost ends the others (exit code 134); what is finished is on the first one's
disk. Nothing here does anything in a job of one process.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from jaxprotect.errors import InputError

if TYPE_CHECKING:  # so that `--help` is quick
    import numpy as np

TOGETHER = 10.0
"""Seconds that a host which fails waits for the others to fail in the same way."""

AUTOMATIC = "auto"

_barriers = itertools.count()
_points = itertools.count(1)


class Terminated(BaseException):
    """SIGTERM came, here or on another host; no `except Exception` may keep it."""


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Several hosts that work as one; the same command runs on each of them.

    Args:
        coordinator: address of the first host, such as 10.0.0.2:1234, or `auto` where the cluster
            knows it (Cloud TPU, GKE, SLURM, MPI).
        processes: how many there are, one on each host.
        process: which one this is, from 0.
        patience: seconds to wait for the others at the start.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    patience: int = 300


@contextlib.contextmanager
def joined(hosts: Hosts) -> Iterator[None]:
    """Work together with the other hosts; only the first one speaks.

    Args:
        hosts: the others, if any.

    Yields:
        Nothing.

    Raises:
        InputError: options that do not fit together, or a coordinator that cannot be reached.
    """
    _check(hosts)
    if hosts.coordinator is None:
        yield
        return
    with _own_words():
        _initialize(hosts)
        if is_first():
            yield
            return
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


@contextlib.contextmanager
def _own_words() -> Iterator[None]:
    """Send what libraries in C++ say to standard error: Gloo greets on standard output."""
    try:
        printed = sys.stdout.fileno() == 1
    except (OSError, ValueError):  # a test reads it
        printed = False
    if not printed:
        yield
        return
    with os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding) as words:
        os.dup2(2, 1)
        try:
            with contextlib.redirect_stdout(words):
                yield
        finally:
            words.flush()
            os.dup2(words.fileno(), 1)


def count() -> int:
    """How many hosts there are."""
    jax = sys.modules.get("jax")  # a job of several has imported it
    return 1 if jax is None or not jax.distributed.is_initialized() else jax.process_count()


def several() -> bool:
    """Whether there is more than one."""
    return count() > 1


def is_first() -> bool:
    """Whether this host has the folder and the terminal."""
    return not several() or sys.modules["jax"].process_index() == 0


def told(function: Callable[[], Any]) -> Any:
    """What the first host finds, on every host.

    Args:
        function: called on the first host alone; gives what JSON can hold.

    Returns:
        What it gave.

    Raises:
        InputError: what it raised, on every host.
    """
    if not several():
        return function()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer = {"found": function()}
        except InputError as error:
            answer = {"error": str(error)}
    answer = json.loads(told_bytes(json.dumps(answer).encode()))
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["found"]


def told_bytes(data: bytes) -> bytes:
    """The first host's bytes, on every host; those of the others are not read."""
    if not several():
        return data
    import numpy as np

    size = int(_broadcast(np.array(len(data), np.int64)))
    buffer = np.frombuffer(data, np.uint8) if is_first() else np.zeros(size, np.uint8)
    return _broadcast(buffer).tobytes()


def told_array(array: "np.ndarray") -> "np.ndarray":
    """The first host's array, on every host.

    Args:
        array: its shape and dtype are the same everywhere; its numbers count on the first host.

    Returns:
        The first host's numbers.
    """
    return array if not several() else _broadcast(array)


def safe_point() -> None:
    """Where all hosts may end alike; called in the same order on all of them, between batches.

    Raises:
        Terminated: a scheduler sent SIGTERM to one of them.
    """
    if not several():
        return
    from jax.experimental.multihost_utils import reached_preemption_sync_point

    if reached_preemption_sync_point(next(_points)):
        raise Terminated


def leave(code: int, line: str) -> NoReturn:
    """End a host that failed: with the others if they fail alike, else alone and at once.

    Args:
        code: exit code.
        line: why; the first host says it for all.

    Raises:
        SystemExit: all hosts ended alike.
    """
    alike = _wait_for_all()
    if is_first() or not alike:
        sys.stderr.write(f"{line}\n")
    if alike:
        sys.exit(code)
    # An ordinary exit would wait for the others, which wait for this host.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _broadcast(array: "np.ndarray") -> "np.ndarray":
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    # 64-bit numbers would lose half their bits.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return np.asarray(broadcast_one_to_all(flat)).view(array.dtype).reshape(array.shape)


def _wait_for_all() -> bool:
    from jax._src import distributed  # its barrier has a time limit; the public one has none

    client = distributed.global_state.client
    assert client is not None
    try:
        client.wait_at_barrier(f"jaxprotect-leave-{next(_barriers)}", int(1000 * TOGETHER))
    except Exception:
        return False
    return True


def _check(hosts: Hosts) -> None:
    given = {"processes": hosts.processes, "process": hosts.process}
    named = hosts.coordinator not in (None, AUTOMATIC)
    for name, value in given.items():
        if value is None and named:
            raise InputError(f"`{name}` is not given; `coordinator` {hosts.coordinator} needs it")
        if value is not None and not named:
            raise InputError(
                f"`{name}` is {value}; it is allowed with a `coordinator` such as 10.0.0.2:1234"
            )
    if hosts.patience < 1:
        raise InputError(f"`patience` is {hosts.patience}; it must be at least 1 second")
    if not named:
        return
    assert hosts.coordinator is not None
    assert hosts.processes is not None
    assert hosts.process is not None
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}", hosts.coordinator):
        raise InputError(
            f"`coordinator` is {hosts.coordinator!r}; allowed are HOST:PORT, such as "
            f"10.0.0.2:1234, and {AUTOMATIC}"
        )
    if hosts.processes < 1:
        raise InputError(f"`processes` is {hosts.processes}; it must be at least 1")
    if not 0 <= hosts.process < hosts.processes:
        raise InputError(
            f"`process` is {hosts.process}; with {hosts.processes} processes allowed are 0 to "
            f"{hosts.processes - 1}"
        )


def _initialize(hosts: Hosts) -> None:
    import jax

    # Programs that are queued on CPUs overtake each other, and what they send gets mixed up.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if hosts.coordinator == AUTOMATIC:
        try:
            jax.distributed.initialize(initialization_timeout=hosts.patience)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"`coordinator` is {AUTOMATIC}, but no cluster was found that says who the hosts "
                f"are ({_first_line(error)}); give HOST:PORT, `processes` and `process`"
            ) from None
        return
    assert hosts.coordinator is not None
    if hosts.process != 0:  # the runtime would end this process without a word that helps
        _reach(hosts.coordinator, hosts.patience)
    try:
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.processes,
            hosts.process,
            initialization_timeout=hosts.patience,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"`coordinator` {hosts.coordinator}: the {hosts.processes} processes did not find each "
            f"other within {hosts.patience} s (`patience`): {_first_line(error)}"
        ) from None


def _reach(address: str, seconds: float) -> None:
    """Wait until the coordinator listens.

    Raises:
        InputError: it does not within the time.
    """
    host, _, port = address.rpartition(":")
    end, reason = time.monotonic() + seconds, "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left):
                return
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
        time.sleep(min(0.2, max(left, 0)))
    raise InputError(
        f"`coordinator` {address} cannot be reached within {seconds} s (`patience`): {reason}; "
        "start process 0 there, and check address and firewall"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
