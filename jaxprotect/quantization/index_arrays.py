"""The arrays that say which weights of a tensor are protected, in the format of `index_bytes`.

A format is named by its arrays: `index.rows`, `index.columns`, `index.coordinate`, `index.bitmap`,
or `index.counts` with `index.sparse`. `none` and `whole` have no array.
"""

import numpy as np
from jaxtyping import Bool

from jaxprotect.errors import InputError
from jaxprotect.quantization.indices import Counts, IndexFormat, count_flags, index_bytes, width

Arrays = dict[str, np.ndarray]
"""Array name -> the array."""

Layout = dict[str, tuple[np.dtype, tuple[int, ...]]]
"""Array name -> its dtype and shape."""

ARRAYS: dict[IndexFormat, tuple[str, ...]] = {
    "none": (),
    "whole": (),
    "rows": ("index.rows",),
    "columns": ("index.columns",),
    "coordinate": ("index.coordinate",),
    "sparse": ("index.counts", "index.sparse"),
    "bitmap": ("index.bitmap",),
}
"""Format -> the names of its arrays."""


def index_layout(counts: Counts) -> tuple[IndexFormat, Layout]:
    """The format of an index, and the arrays that it has.

    Args:
        counts: the tensor's shape, and how much of it is protected.

    Returns:
        The format, and dtype and shape of each array.
    """
    index_format, _ = index_bytes(counts)
    outputs, inputs, protected = counts.outputs, counts.inputs, counts.protected
    sizes: dict[IndexFormat, list[tuple[int, int]]] = {
        "rows": [(counts.rows, width(outputs - 1, 2))],
        "columns": [(counts.columns, width(inputs - 1, 2))],
        "coordinate": [(protected, width(counts.weights - 1, 4))],
        "sparse": [(outputs, width(inputs, 2)), (protected, width(inputs - 1, 1))],
        "bitmap": [(-(-counts.weights // 8), 1)],
    }
    arrays = zip(ARRAYS[index_format], sizes.get(index_format, []), strict=True)
    return index_format, {name: (np.dtype(f"<u{n}"), (size,)) for name, (size, n) in arrays}


def write_index(flags: Bool[np.ndarray, "outputs inputs"]) -> tuple[IndexFormat, Arrays]:
    """Say which weights of a matrix are protected, in the cheapest format.

    Args:
        flags: True = protected.

    Returns:
        The format, and arrays whose bytes are those of `index_bytes`.

    >>> write_index(np.array([[True] * 8, [False] * 8, [False] * 8]))
    ('rows', {'index.rows': array([0], dtype=uint16)})
    """
    index_format, layout = index_layout(count_flags(flags, flags.shape, (1,)))
    if index_format == "rows":
        values = [np.flatnonzero(flags.all(axis=1))]
    elif index_format == "columns":
        values = [np.flatnonzero(flags.all(axis=0))]
    elif index_format == "coordinate":
        values = [np.flatnonzero(flags)]
    elif index_format == "sparse":
        values = [flags.sum(axis=1), np.nonzero(flags)[1]]
    elif index_format == "bitmap":
        values = [np.packbits(flags.reshape(-1), bitorder="little")]
    else:
        values = []
    arrays = zip(layout.items(), values, strict=True)
    return index_format, {name: array.astype(dtype) for (name, (dtype, _)), array in arrays}


def read_index(
    arrays: Arrays, shape: tuple[int, int], *, whole: bool = False
) -> Bool[np.ndarray, "outputs inputs"]:
    """The flags that `write_index` wrote.

    Args:
        arrays: of one tensor; others than those of an index are left alone.
        shape: outputs and inputs.
        whole: what no index means: every weight, or none.

    Returns:
        True = protected.

    Raises:
        InputError: two indices, or one that does not fit the shape.
    """
    names = tuple(sorted(name for name in arrays if name.startswith("index.")))
    if not names:
        return np.full(shape, whole)
    index_format: IndexFormat | None = next((k for k, v in ARRAYS.items() if v == names), None)
    if index_format is None:
        raise InputError(f"the index has the arrays {names}; allowed are {[*ARRAYS.values()]}")
    flags = np.zeros(shape, bool)
    try:
        _mark(flags, index_format, [arrays[name].astype(np.int64) for name in names])
    except (IndexError, ValueError) as error:
        raise InputError(f"the {index_format} index does not fit {shape}: {error}") from None
    return flags


def _mark(
    flags: Bool[np.ndarray, "outputs inputs"], index_format: IndexFormat, values: list[np.ndarray]
) -> None:
    if index_format == "rows":
        flags[values[0]] = True
    elif index_format == "columns":
        flags[:, values[0]] = True
    elif index_format == "coordinate":
        flags.reshape(-1)[values[0]] = True
    elif index_format == "sparse":
        rows = np.repeat(np.arange(len(flags)), values[0])
        if len(rows) != len(values[1]):
            raise ValueError(f"{len(values[1])} columns for counts that sum to {len(rows)}")
        flags[rows, values[1]] = True
    else:
        bits = np.unpackbits(values[0].astype(np.uint8), bitorder="little")
        flags.reshape(-1)[:] = bits[: flags.size].astype(bool)
