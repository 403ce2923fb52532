"""Several hosts as one job: one process on each, all running the same program in the same order.

The first host has the folder, the terminal and the say: what it reads or decides, the others are
told. A host that is lost ends the others (exit code 134); what is finished is on the first one's
disk. Nothing here does anything in a job of one process.
"""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from jaxprotect.errors import InputError

if TYPE_CHECKING:  # so that `--help` is quick
    import numpy as np

TOGETHER = 10.0
"""Seconds that a host which fails waits for the others to fail in the same way."""

WATCH = 5.0
"""Seconds of one look at whether the first host has finished; a signal is heard after each."""

_answers = itertools.count()
_barriers = itertools.count()
_blocks = itertools.count()
_points = itertools.count(1)


class Terminated(BaseException):
    """SIGTERM came, here or on another host; no `except Exception` may keep it."""


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
    said = f"jaxprotect-told-{next(_answers)}"
    if is_first():
        try:
            answer = {"found": function()}
        except InputError as error:
            answer = {"error": str(error)}
        _say(said)
    else:  # not yet in the broadcast, which would not wait for long
        _wait_until(said)
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


@contextlib.contextmanager
def first_leaves_first() -> Iterator[Callable[[], None]]:
    """A block that the other hosts leave after the first one, whose last upload may take long.

    JAX's runtime gives a host that ends the others only some minutes, and then ends them.

    Yields:
        What the first host alone calls when it begins to leave: from then on the others wait for
        as long as it lives. Should they fail before, they wait for that call, but no longer than
        it takes to see that they failed alone.
    """
    name = f"jaxprotect-block-{next(_blocks)}"
    if not several():
        yield lambda: None
        return
    leaving, left = f"{name}-leaving", f"{name}-left"
    failed = True
    try:
        yield lambda: _say(leaving)
        failed = False
    finally:
        if is_first():
            _say(leaving)
            _say(left)
        elif not failed or _is_said(leaving, TOGETHER):
            _wait_until(left)


def leave(code: int, line: str) -> NoReturn:
    """End a host that failed: with the others if they fail alike, else alone and at once.

    Args:
        code: exit code.
        line: why, if there is something to say; the first host says it for all.

    Raises:
        SystemExit: all hosts ended alike.
    """
    alike = _wait_for_all()
    if line and (is_first() or not alike):
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


def _say(key: str) -> None:
    """Let the other hosts go on that wait for it; saying it again changes nothing."""
    _client().key_value_set(key, "", allow_overwrite=True)


def _wait_until(key: str) -> None:
    """Wait until the first host says something, for as long as it lives."""
    while not _is_said(key, WATCH):
        pass


def _is_said(key: str, seconds: float) -> bool:
    """Whether the first host says something within the time."""
    try:
        _client().blocking_key_value_get(key, int(1000 * seconds))
    except Exception as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return False
        raise
    return True


def _wait_for_all() -> bool:
    # The public barrier has no time limit.
    try:
        _client().wait_at_barrier(f"jaxprotect-leave-{next(_barriers)}", int(1000 * TOGETHER))
    except Exception:
        return False
    return True


def _client() -> Any:
    """Of the service by which hosts talk without their devices."""
    from jax._src import distributed

    assert distributed.global_state.client is not None
    return distributed.global_state.client
