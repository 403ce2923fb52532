"""How often JAX compiles a function, by the function's name, as its own log says."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Count:
    """Compilations seen so far."""

    count: int = 0


class _Listener(logging.Handler):
    def __init__(self, function: str, found: Count):
        super().__init__()
        self.function, self.found = function, found

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(f"Compiling jit({self.function})"):
            self.found.count += 1


@contextmanager
def compilations(function: str) -> Iterator[Count]:
    """Count the compilations of a jitted function of this name.

    Args:
        function: its name.

    Yields:
        The count, which grows while the context is open.
    """
    found = Count()
    listener = _Listener(function, found)
    logger = logging.getLogger("jax._src.interpreters.pxla")
    logger.addHandler(listener)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate
