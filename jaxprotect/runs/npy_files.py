"""An array as an `.npy` file that carries its checksum, and a reader that believes no header.

NumPy reads as many bytes as the header asks for and ignores what follows, so that a checksum can
follow: the file is written in one piece, and every reader of `.npy` still takes it.
"""

import io
import math
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from jaxprotect.errors import InputError
from jaxprotect.models.folders import file_in

MARK = b"sha256:"
"""Before the checksum. Seven bytes: no array of wide numbers can take the trailer for data."""


def checked_npy(values: np.ndarray) -> bytes:
    """An array as the bytes of an `.npy` file, and the sha256 of them.

    Args:
        values: the array.

    Returns:
        The content of a file for `load_array`.
    """
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    data = buffer.getvalue()
    return data + MARK + sha256(data).digest()


def load_array(folder: Path, name: str) -> np.ndarray:
    """Read an array of a folder and check it; files of older versions have no checksum.

    Args:
        folder: the folder.
        name: the file's path in it.

    Returns:
        The array.

    Raises:
        InputError: no such file, or it is damaged.
    """
    path = file_in(folder, name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error}") from None
    end = len(data) - len(MARK) - sha256().digest_size
    if end < 0 or not data.startswith(MARK, end):
        return parse_npy(data, str(path))
    if sha256(data[:end]).digest() != data[end + len(MARK) :]:
        raise InputError(f"`{path}` is damaged: its checksum differs")
    return parse_npy(data[:end], str(path))


def parse_npy(data: bytes, name: str) -> np.ndarray:
    """The array of an `.npy` file, whose header must ask for just the bytes that are there.

    Args:
        data: the file.
        name: what to call it.

    Returns:
        The array; its memory is that of `data`.

    Raises:
        InputError: no such file, a size that differs, or an array of Python objects.
    """
    stream = io.BytesIO(data)
    try:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("its format version is not 1.0")
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, and pickles are never loaded")
        if dtype.kind not in "biuf":
            raise ValueError(f"it holds {dtype}; allowed: numbers")
        found, wanted = len(data) - stream.tell(), dtype.itemsize * math.prod(shape)
        if min(shape, default=0) < 0 or wanted != found:
            raise ValueError(f"it has {found} bytes for {dtype} of shape {shape}")
        return np.ndarray(shape, dtype, data, stream.tell(), order="F" if fortran else "C")
    except Exception as error:  # the header is a Python literal, which can be wrong in many ways
        raise InputError(f"`{name}` cannot be read: {error}") from None
