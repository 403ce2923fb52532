"""The weight files of a model folder: which ones to read, and their tensors by name.

Safetensors first, whole or sharded; Flax's msgpack where there is nothing else. Pickles are never
loaded.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import serialization
from safetensors import SafetensorError, safe_open

from jaxprotect.errors import InputError, listed, reason_of
from jaxprotect.hosts import told
from jaxprotect.models.folders import file_in
from jaxprotect.models.json_files import parse_json, read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLAX = "flax_model.msgpack"

MOST_NAMES = 40
"""Of the files of a folder or repository that are named in a message."""

_LIKE_WEIGHTS = (
    *(".safetensors", ".msgpack", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".ot", ".onnx"),
    *(".gguf", ".ggml", ".npz", ".tflite"),
)
"""How names of files of weights end, in whatever format."""

_SHARD = re.compile(r"([^/]+)-\d{5}-of-\d{5}\.safetensors")

np.dtype(jnp.bfloat16)  # importing JAX registers bfloat16 with NumPy, which safetensors relies on


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a weight file, not yet read.

    Args:
        file: the file's name.
        dtype: NumPy's name of the stored type, or safetensors' where NumPy has none.
        shape: the stored shape.
        read: reads it; call it once.
        read_ranges: (axis, ranges) -> those parts of it, one after the other along the axis, and
            nothing else of the file; None where only the whole can be read.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    read_ranges: Callable[[int, Sequence[slice]], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The weights of a folder.

    Args:
        folder: the folder.
        names: of its weight files.
        tensors: tensor name -> the tensor.
        flax: names and layouts are those of Flax.
    """

    folder: Path
    names: list[str]
    tensors: dict[str, StoredTensor]
    flax: bool

    def checksum(self) -> str:
        """sha256 of the bytes of the weight files, in the order of their names; reads them all."""
        # The other hosts read only what they hold.
        return told(lambda: checksum(self.folder, self.names))


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def open_weights(folder: Path | str) -> WeightFiles:
    """Find a folder's weight files and list their tensors.

    Args:
        folder: a Hugging Face model folder.

    Returns:
        The tensors, to be read one by one.

    Raises:
        InputError: no readable weights, a damaged file, or an index that does not fit its files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"`{folder}` is not a folder; give a Hugging Face model folder")
    if (folder / SINGLE).is_file():
        names, tensors = [SINGLE], _open_safetensors(file_in(folder, SINGLE))
    elif (folder / INDEX).is_file():
        names, tensors = _open_shards(folder)
    elif (folder / FLAX).is_file():
        names, tensors = [FLAX], _open_msgpack(file_in(folder, FLAX))
    else:
        raise InputError(_nothing_readable(folder))
    return WeightFiles(folder=folder, names=names, tensors=tensors, flax=names == [FLAX])


def safetensors_of(names: Iterable[str]) -> list[str]:
    """Of the names of files those that are the weights in safetensors, or none.

    Args:
        names: all files of a repository.

    Returns:
        `model.safetensors`; else its index with the shards that are there.
    """
    names = set(names)
    if SINGLE in names:
        return [SINGLE]
    if INDEX not in names:
        return []
    shards = {name: found[1] for name in names if (found := _SHARD.fullmatch(name))}
    # Beside those of the usual name others are variants, such as `model.fp16`.
    usual = "model" in shards.values()
    return [INDEX, *sorted(name for name in shards if not usual or shards[name] == "model")]


def weights_among(names: Iterable[str]) -> str:
    """Files of weights of any format, for a message; the shards of one file are one name.

    Args:
        names: all files of a repository.

    Returns:
        Their names in backticks; nothing if there are none.
    """
    found = {re.sub(r"-\d{5}-of-", "-*-of-", n) for n in names if n.endswith(_LIKE_WEIGHTS)}
    return listed(sorted(found), MOST_NAMES)


def _nothing_readable(folder: Path) -> str:
    files = sorted(path.name for path in folder.iterdir())
    hint = ""
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in files):
        tokenizer = f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained(FOLDER)"
        hint = (
            "; pickles are never loaded: convert them with `save_pretrained(FOLDER)` of "
            f"transformers, and the tokenizer with `{tokenizer}`, and give that folder"
        )
    found = listed(files, MOST_NAMES) or "nothing"
    return f"`{folder}` has no weights in {SINGLE}, {INDEX} or {FLAX}; it holds {found}{hint}"


def checksum(folder: Path, names: list[str]) -> str:
    """sha256 over the bytes of files, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        handle = safe_open(path, framework="numpy")  # checks the header against the file's size
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"`{path}` is damaged or no safetensors file: {reason_of(error)}"
        ) from None
    with path.open("rb") as file:
        parse_json(file.read(int.from_bytes(file.read(8), "little")), str(path))
    tensors = {}
    for name in handle.keys():  # noqa: SIM118 (not a dict)
        entry = handle.get_slice(name)
        dtype = str(entry.get_dtype())
        tensors[name] = StoredTensor(
            file=path.name,
            dtype=_DTYPES.get(dtype, dtype),
            shape=tuple(entry.get_shape()),
            read=partial(_read_safetensor, path, name),
            read_ranges=partial(_read_ranges, path, name),
        )
    return tensors


def _read_safetensor(path: Path, name: str) -> np.ndarray:
    # Opened anew: pages of a mapping stay in memory for as long as it is open.
    with safe_open(path, framework="numpy") as handle:
        return handle.get_tensor(name)


def _read_ranges(path: Path, name: str, axis: int, ranges: Sequence[slice]) -> np.ndarray:
    with safe_open(path, framework="numpy") as handle:
        stored = handle.get_slice(name)
        before = (slice(None),) * axis
        return np.concatenate([stored[(*before, part)] for part in ranges], axis=axis)


def _open_shards(folder: Path) -> tuple[list[str], dict[str, StoredTensor]]:
    path = folder / INDEX
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise InputError(f"`{path}` has no `weight_map` from tensor names to file names")
    tensors: dict[str, StoredTensor] = {}
    names = sorted(set(where.values()))
    for name in names:
        if not file_in(folder, name).is_file():
            raise InputError(f"`{path}` names {name!r}, which is missing from the folder")
        for tensor, stored in _open_safetensors(folder / name).items():
            if tensor in tensors:
                files = f"{tensors[tensor].file} and {name}"
                raise InputError(f"tensor `{tensor}` is in {files}; allowed: one file")
            tensors[tensor] = stored
    for tensor, name in where.items():
        found = tensors[tensor].file if tensor in tensors else "no file"
        if found != Path(name).name:
            raise InputError(f"`{path}` says that `{tensor}` is in {name!r}; found in {found}")
    return names, tensors


def _open_msgpack(path: Path) -> dict[str, StoredTensor]:
    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # a damaged file can fail anywhere inside the decoder
        raise InputError(
            f"`{path}` is damaged or no Flax msgpack file: {reason_of(error)}"
        ) from None
    arrays: dict[str, np.ndarray] = {}

    def visit(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, child in node.items():
                visit(child, f"{name}.{key}" if name else str(key))
        elif isinstance(node, np.ndarray):
            arrays[name] = node
        else:
            raise InputError(f"`{path}`: `{name}` is {type(node).__name__}; allowed: an array")

    visit(tree, "")
    return {
        name: StoredTensor(
            file=path.name,
            dtype=array.dtype.name,
            shape=array.shape,
            read=partial(arrays.pop, name),  # frees each array once it has been copied
        )
        for name, array in list(arrays.items())
    }
