"""A prefix as a file: its arrays in half precision, and the model it belongs to."""

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

from jaxprotect.errors import InputError
from jaxprotect.models.json_files import parse_json
from jaxprotect.models.model import Model
from jaxprotect.models.prefix import Prefix, check_prefix, round_prefix
from jaxprotect.runs.results import write_atomically

NAMES = {"keys": 4, "values": 4, "hidden": 1}
"""Arrays of a prefix, as in the struct and in the file -> how many axes each has."""


PREFIX_FILE = "prefix.safetensors"
"""Its name beside packed weights."""


def prefix_file_size(prefix: Prefix, model: Model) -> int:
    """Bytes of the file that `save_prefix` writes, header included."""
    return len(_serialize(prefix, model))


def save_prefix(path: Path, prefix: Prefix, model: Model) -> None:
    """Write a prefix in float16, so that it is whole or absent.

    Args:
        path: a `.safetensors` file.
        prefix: the prefix.
        model: the model whose text tokens will follow it.

    Raises:
        InputError: a prefix of another architecture, or values that float16 cannot hold.
    """
    write_atomically(path, _serialize(prefix, model))


def _serialize(prefix: Prefix, model: Model) -> bytes:
    check_prefix(prefix, model.config)
    rounded = round_prefix(prefix)
    arrays = {name: np.asarray(getattr(rounded, name), np.float16) for name in NAMES}
    header = {
        "model_sha256": model.sha256,
        "tokens": json.dumps(list(prefix.tokens)),
        "sha256": _checksum(arrays, prefix.tokens),
    }
    return _in_order(save(arrays, header))


def _in_order(data: bytes) -> bytes:
    """The file with its metadata sorted: the library has them in an order of chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def load_prefix(path: Path, model: Model) -> Prefix:
    """Read a prefix back, in float32.

    Args:
        path: a file that `save_prefix` wrote.
        model: the model that it must belong to.

    Returns:
        The prefix.

    Raises:
        InputError: not such a file, damaged, or of another model.
    """
    try:
        data = path.read_bytes()
        arrays = load(data)  # checks the header against the file's size
        size = int.from_bytes(data[:8], "little")
        header = parse_json(data[8 : 8 + size], str(path))["__metadata__"]
        tokens = parse_json(header["tokens"], f"{path} tokens")
        expected, owner = header["sha256"], header["model_sha256"]
    except Exception as error:  # the library raises bare exceptions for dtypes it does not know
        raise InputError(f"`prefix` {path} cannot be read: {error}") from None
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise InputError(f"`prefix` {path} has tokens that are no list of whole numbers")
    if sorted(arrays) != sorted(NAMES) or _checksum(arrays, tuple(tokens)) != expected:
        raise InputError(f"`prefix` {path} is damaged: its checksum differs")
    if owner != model.sha256:
        raise InputError(f"`prefix` {path} belongs to another model than {model.name}")
    for name, dimensions in NAMES.items():
        array = arrays[name]
        if (array.dtype, array.ndim) != (np.float16, dimensions) or not np.isfinite(array).all():
            raise InputError(
                f"`prefix` {path} has {name} of {array.dtype} and shape {array.shape}; expected "
                f"finite float16 with {dimensions} axes"
            )
    keys, values, hidden = (jnp.asarray(arrays[name], jnp.float32) for name in NAMES)
    prefix = Prefix(keys=keys, values=values, hidden=hidden, tokens=tuple(tokens))
    try:
        check_prefix(prefix, model.config)
    except InputError as error:
        raise InputError(f"`prefix` {path} does not fit {model.name}: {error}") from None
    return prefix


def _checksum(arrays: dict[str, np.ndarray], tokens: tuple[int, ...]) -> str:
    digest = hashlib.sha256(json.dumps(list(tokens)).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
