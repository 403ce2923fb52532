"""Out of memory, in one line that says what to try."""

import contextlib
from collections.abc import Iterable, Iterator

import jax

from jaxprotect.errors import InputError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or of the device, was the reason."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError)


@contextlib.contextmanager
def smaller_batches(shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Name smaller batches where memory runs out.

    Args:
        shapes: [B, T] of the batches that are computed.

    Yields:
        Nothing.

    Raises:
        InputError: memory ran out; the message has half the tokens of the largest batch.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        rows, length = max(shapes, key=lambda shape: shape[0] * shape[1])
        advice = (
            f"try `batch_tokens` {rows * length // 2}"
            if rows > 1
            else "a smaller `batch_tokens` cannot help, a device with more memory can"
        )
        raise InputError(
            f"out of memory in a batch of {rows} x {length} tokens; what is finished is kept; "
            f"{advice}"
        ) from error
