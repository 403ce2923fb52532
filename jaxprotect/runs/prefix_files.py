"""A prefix as a file: its arrays in half precision, and the model it belongs to."""

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxprotect.errors import InputError
from jaxprotect.models.model import Model
from jaxprotect.models.prefix import Prefix, check_prefix, round_prefix
from jaxprotect.runs.results import write_atomically

NAMES = ("keys", "values", "hidden")
"""Arrays of a prefix, as in the struct and in the file."""


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
    return save(arrays, header)


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
        arrays = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        tokens = tuple(json.loads(header["tokens"]))
        expected, owner = header["sha256"], header["model_sha256"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"`prefix` {path} cannot be read: {error}") from None
    if sorted(arrays) != sorted(NAMES) or _checksum(arrays, tokens) != expected:
        raise InputError(f"`prefix` {path} is damaged: its checksum differs")
    if owner != model.sha256:
        raise InputError(f"`prefix` {path} belongs to another model than {model.name}")
    keys, values, hidden = (jnp.asarray(arrays[name], jnp.float32) for name in NAMES)
    prefix = Prefix(keys=keys, values=values, hidden=hidden, tokens=tokens)
    check_prefix(prefix, model.config)
    return prefix


def _checksum(arrays: dict[str, np.ndarray], tokens: tuple[int, ...]) -> str:
    digest = hashlib.sha256(json.dumps(list(tokens)).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
