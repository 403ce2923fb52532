"""A safetensors file whose header is known before its data: written array by array.

8 bytes with the header's length, the header (JSON), the data. The header lists wide elements
first, so that every array starts at a multiple of its element's size.
"""

import json
import math
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.quantization.index_arrays import Layout

_NAMES = {
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
}
METADATA = {"format": "jaxprotect"}


def header_bytes(layout: Layout) -> tuple[bytes, dict[str, int]]:
    """The start of the file, and where the data of each array begins.

    Args:
        layout: array name -> dtype and shape.

    Returns:
        Length and header, padded to a multiple of 8 bytes; offsets from the start of the file.
    """
    entries: dict[str, dict] = {"__metadata__": METADATA}
    offsets, used = {}, 0
    for name in sorted(layout, key=lambda name: -layout[name][0].itemsize):  # stable
        dtype, shape = layout[name]
        end = used + dtype.itemsize * math.prod(shape)
        entries[name] = {
            "dtype": _NAMES[dtype.name],
            "shape": list(shape),
            "data_offsets": [used, end],
        }
        offsets[name], used = used, end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    return start, {name: len(start) + offset for name, offset in offsets.items()}


def file_size(layout: Layout) -> int:
    """Bytes of the file, header included."""
    data = sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())
    return len(header_bytes(layout)[0]) + data


def write_safetensors(
    path: Path, layout: Layout, arrays: Iterable[tuple[str, np.ndarray]]
) -> dict[str, str]:
    """Write the file; one array is in memory at a time.

    Args:
        path: the file.
        layout: what `arrays` will have.
        arrays: names and arrays, in any order, each once.

    Returns:
        Array name -> sha256 of its bytes.

    Raises:
        InputError: an array that the layout does not promise, or one that is missing.
    """
    start, offsets = header_bytes(layout)
    checksums: dict[str, str] = {}
    with path.open("xb") as file:
        file.write(start)
        for name, array in arrays:
            found = (array.dtype, array.shape)
            if layout.get(name) != found or name in checksums:
                raise InputError(f"array `{name}` is {found}; the layout has {layout.get(name)}")
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            file.seek(offsets[name])
            file.write(data)
            checksums[name] = sha256(data).hexdigest()
        file.flush()
        os.fsync(file.fileno())
    if missing := sorted(layout.keys() - checksums.keys()):
        raise InputError(f"array `{missing[0]}` was not given; the layout has it")
    return {name: checksums[name] for name in offsets}
