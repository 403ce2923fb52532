"""A mask as a file: packed bits per leaf, its counts, and the model it belongs to."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.quantize import Mask
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
    flags = {name: np.asarray(leaf, bool) for name, leaf in leaf_paths(mask).items()}
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
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        flags = {name: _unpack(name, arrays[name], header) for name in header["shapes"]}
    except InputError:
        raise
    except Exception as error:  # a damaged zip fails in many ways
        raise InputError(f"`mask` {path} cannot be read: {error}") from None
    if header["model_sha256"] != model.sha256:
        raise InputError(f"`mask` {path} belongs to another model than {model.name}")
    return _on(flags, model.params, path)


def _checksum(bits: np.ndarray) -> str:
    return hashlib.sha256(bits.tobytes()).hexdigest()


def _unpack(name: str, bits: np.ndarray, header: dict) -> np.ndarray:
    if _checksum(bits) != header["sha256"][name]:
        raise InputError(f"`mask` is damaged at {name}: its checksum differs")
    shape = tuple(header["shapes"][name])
    return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)


def _on(flags: dict[str, np.ndarray], params: Params, path: Path) -> Mask:
    if flags.keys() != leaf_paths(params).keys():
        odd = sorted(flags.keys() ^ leaf_paths(params).keys())
        raise InputError(f"`mask` {path} and the model differ in the leaves {odd}")
    return map_leaves(lambda name, leaf: flags[name], params)
