"""A mask as a file: packed bits per leaf, its counts, and the model it belongs to."""

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.json_files import parse_json
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.npy_files import parse_npy
from jaxprotect.runs.results import write_atomically
from jaxprotect.trees import leaf_paths, map_leaves

HEADER = "header"
"""Name of the array that holds the JSON header; no leaf is called so."""


def save_mask(path: Path, mask: Mask, model: Model) -> None:
    """Write a mask, so that it is whole or absent.

    Args:
        path: an `.npz` file.
        mask: the mask; broadcast leaves stay as small as they are.
        model: the model that it belongs to.
    """
    flags = {
        name: on_host(leaf).astype(bool, copy=False) for name, leaf in leaf_paths(mask).items()
    }
    packed = {name: np.packbits(leaf.reshape(-1)) for name, leaf in flags.items()}
    header = {
        "model_sha256": model.sha256,
        "shapes": {name: leaf.shape for name, leaf in flags.items()},
        "sha256": {name: _checksum(bits) for name, bits in packed.items()},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{HEADER: text}, **packed)
    write_atomically(path, buffer.getvalue())


def load_mask(path: Path, model: Model) -> Mask:
    """Read a mask back.

    Args:
        path: a file that `save_mask` wrote.
        model: the model that it must belong to.

    Returns:
        The mask.

    Raises:
        InputError: not such a file, damaged, or of another model.
    """
    return read_mask(path, model.params, sha256=model.sha256, name=model.name)


def read_mask(path: Path, params: Params, *, sha256: str, name: str) -> Mask:
    """Read a mask back where only the shapes of its model are at hand.

    Args:
        path: a file that `save_mask` wrote.
        params: the parameter tree that it must belong to (only shapes are read).
        sha256: of the model's weights.
        name: of the model, for messages.

    Returns:
        The mask.

    Raises:
        InputError: not such a file, damaged, or of another model.
    """
    try:
        arrays = _arrays(path)
        header = _header(arrays)
    except InputError as error:
        raise InputError(f"`mask` {path} cannot be read: {error}") from None
    if header["model_sha256"] != sha256:
        raise InputError(f"`mask` {path} belongs to another model than {name}")
    leaves = leaf_paths(params)
    if odd := sorted(leaves.keys() ^ header["shapes"].keys()):
        raise InputError(f"`mask` {path} and the model differ in the leaves {odd}")
    flags = {}
    for leaf, weights in leaves.items():
        try:
            flags[leaf] = _unpack(arrays[leaf], header["sha256"][leaf], header["shapes"][leaf])
            np.broadcast_to(flags[leaf], weights.shape)
        except (InputError, ValueError) as error:
            raise InputError(f"`mask` {path} is damaged at {leaf}: {error}") from None
    return map_leaves(lambda leaf, weights: flags[leaf], params)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, which is to hold no more than its own size."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            stored = all(of.compress_type == zipfile.ZIP_STORED for of in members)
            if not stored or sum(of.file_size for of in members) > path.stat().st_size:
                raise InputError("its arrays are compressed, or larger than the file")
            data = {of.filename.removesuffix(".npy"): file.read(of) for of in members}
    except InputError:
        raise
    except Exception as error:  # a damaged zip fails in many ways
        raise InputError(str(error) or type(error).__name__) from None
    if len(data) < len(members):
        raise InputError("it has two arrays of one name")
    return {name: parse_npy(content, name) for name, content in data.items()}


def _header(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if HEADER not in arrays:
        raise InputError(f"it has no `{HEADER}`")
    header = parse_json(arrays.pop(HEADER).tobytes(), HEADER)
    kinds = {"model_sha256": str | None, "shapes": dict, "sha256": dict}
    for name, kind in kinds.items():
        if not isinstance(header, dict) or not isinstance(header.get(name, ...), kind):
            raise InputError(f"its `{HEADER}` has no {name}")
    if not arrays.keys() == header["shapes"].keys() == header["sha256"].keys():
        raise InputError(f"its `{HEADER}` and its arrays differ in their names")
    return header


def _checksum(bits: np.ndarray) -> str:
    return hashlib.sha256(bits.tobytes()).hexdigest()


def _unpack(bits: np.ndarray, sha256: Any, shape: Any) -> np.ndarray:
    if _checksum(bits) != sha256:
        raise InputError("its checksum differs")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise InputError(f"its shape is {shape!r}")
    count = math.prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-count // 8),):
        raise InputError(f"it has {bits.size} bytes; expected the bits of shape {shape}")
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)
