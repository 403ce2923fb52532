"""How a command ends: in one line, with an exit code, and what is finished kept.

1    a mistake of the program: its traceback
2    bad input, a full or closed disk, too little memory
130  Ctrl-C (128 + SIGINT)
143  SIGTERM, as schedulers send it before they take a machine away (128 + SIGTERM)
134  of a job of several hosts: another one was lost (128 + SIGABRT, which JAX's runtime raises)
141  who read the output has left, as `| head` does (128 + SIGPIPE); nothing is said

A signal ends the command as soon as the device has finished what it computes: files are whole or
absent, rows that were written stay, locks are freed. A second SIGTERM ends it at once, which is as
safe as kill -9. The same command, given again, continues what its folder holds. When one of several
hosts has the signal all end, at the same point of the program.
"""

import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from jaxprotect import hosts
from jaxprotect.disk import disk_trouble
from jaxprotect.errors import InputError
from jaxprotect.hosts import Terminated

MISTAKE = 1
BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
LOST = 128 + signal.SIGABRT
UNREAD = 128 + signal.SIGPIPE
_OF_A_LOST_HOST = ("gloo", "connection", "heartbeat", "coordination service", "unavailable")
_GO_ON = "give the same command again to go on from what is finished"


def end_in_one_line(command: Callable[[], object]) -> None:
    """Run a command; where it fails, print one line to standard error and exit with a code.

    Args:
        command: what to do.

    Raises:
        SystemExit: with the codes above; errors that are mistakes of the program pass unchanged.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main_thread else None
    try:
        command()
        sys.stdout.flush()  # what nobody reads is seen here, not at the interpreter's end
        return
    except InputError as error:
        line, code = f"error: {error}", BAD_INPUT
    except KeyboardInterrupt:
        line, code = f"interrupted; {_GO_ON}", INTERRUPTED
    except Terminated:
        line, code = f"terminated; {_GO_ON}", TERMINATED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            line, code = "", UNREAD
        elif _is_lost(error):
            line, code = f"another host was lost; {_GO_ON}", LOST
        elif (reason := _reason(error)) is not None:
            line, code = f"error: {reason}", BAD_INPUT
        elif hosts.several():  # the others, which wait for this one, are told by its end
            line, code = traceback.format_exc().rstrip(), MISTAKE
        else:
            raise
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    # Here the command's frames are gone, and its progress bars have ended their lines.
    if hosts.several():
        hosts.leave(code, line)
    sys.stderr.write(f"{line}\n" if line else "")
    sys.exit(code)


def _terminate(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def _reader_has_left() -> bool:
    """Whether standard output is the pipe that broke; what it still holds is dropped if so."""
    output = sys.stdout.fileno()
    watched = select.poll()
    watched.register(output, 0)  # errors alone: that nobody is at the other end
    if not watched.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _is_lost(error: Exception) -> bool:
    """Whether it is what a collective says when one of its hosts is gone."""
    if not hosts.several():
        return False
    # The second is raised where a program has just been given to the device.
    words = {"JaxRuntimeError": _OF_A_LOST_HOST, "ValueError": ("gloo",)}
    said = str(error).lower()
    return any(word in said for word in words.get(type(error).__name__, ()))


def _reason(error: Exception) -> str | None:
    """A line for what the machine, not the program, is the reason of."""
    if (trouble := disk_trouble(error)) is not None:
        name = getattr(error, "filename", None)
        return f"{name}: {trouble}" if name else trouble
    from jaxprotect.memory import is_out_of_memory  # imports JAX

    if is_out_of_memory(error):
        return (
            "out of memory; what is finished is kept; try a smaller `batch_tokens`, a smaller "
            "model, or a device with more memory"
        )
    return None
