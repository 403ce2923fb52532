"""Arrays too large for memory, in files that vanish with them."""

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxprotect.errors import InputError

LARGE = 2**28
"""Bytes from which an array is put in a file."""


def scratch_in(folder: Path, *, large: int = LARGE) -> Callable[[tuple[int, ...]], np.ndarray]:
    """An allocator of float32 arrays: small ones in memory, large ones in files without a name.

    Args:
        folder: on the disk to use.
        large: bytes from which an array is put in a file.

    Returns:
        Shape -> array; it raises InputError where the disk has no room for one.
    """

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        size = 4 * math.prod(shape)
        if size < large:
            return np.empty(shape, np.float32)
        try:
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  the array keeps it open
            # Room is taken now: a mapped page without any would end the process.
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise InputError(f"{folder} has no room for {size:,} bytes: {error.strerror}") from None
        return np.memmap(file, np.float32, "r+", shape=shape)

    return allocate
