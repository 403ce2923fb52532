"""Several hosts find each other and become one job, of which the first one speaks."""

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from jaxprotect.endings import BAD_INPUT
from jaxprotect.errors import InputError, first_line_of
from jaxprotect.hosts import is_first

AUTOMATIC = "auto"

OVERTIME = 60
"""Seconds after `patience` in which JAX's own limit does not end the process yet."""


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
    late = hosts.patience + OVERTIME
    if hosts.coordinator == AUTOMATIC:
        try:
            with _in_time(hosts):
                jax.distributed.initialize(
                    local_device_ids=[] if _is_alone() else None, initialization_timeout=late
                )
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"`coordinator` is {AUTOMATIC}, but no cluster was found that says who the hosts "
                f"are ({first_line_of(error)}); give HOST:PORT, `processes` and `process`"
            ) from None
        return
    assert hosts.coordinator is not None
    if hosts.process != 0:
        _reach(hosts.coordinator, hosts.patience)
    with _in_time(hosts):
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.processes,
            hosts.process,
            cluster_detection_method="deactivate",  # which leaves each task of SLURM one GPU
            initialization_timeout=late,
        )


@contextlib.contextmanager
def _in_time(hosts: Hosts) -> Iterator[None]:
    """End this process in one line if the block, in which hosts find each other, takes too long.

    JAX's runtime would abort it, with the code of a host that was lost and a trace of its stack.
    """

    def end() -> None:
        from jax._src import distributed

        state = distributed.global_state
        if state.coordinator_address is None:
            said = "is auto, but the cluster did not say who the hosts are"
        else:
            auto = " (auto)" if hosts.coordinator == AUTOMATIC else ""
            said = (
                f"{state.coordinator_address}{auto}: the {state.num_processes} processes, of which "
                f"this is {state.process_id}, did not find each other"
            )
        sys.stderr.write(
            f"error: `coordinator` {said} within {hosts.patience} s (`patience`); check that all "
            "were started, and that no firewall is between them\n"
        )
        sys.stderr.flush()
        os._exit(BAD_INPUT)  # the main thread waits in the runtime

    watch = threading.Timer(hosts.patience, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _is_alone() -> bool:
    """Whether this is the only process that SLURM or MPI started on this host.

    JAX gives their processes one GPU each; one that is alone is to have them all.
    """
    there = os.environ
    nodes = there.get("SLURM_STEP_NUM_NODES")
    return there.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1" or (
        nodes is not None and nodes == there.get("SLURM_NTASKS")
    )


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
