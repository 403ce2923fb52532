"""A scheme as files: how large they are, to the byte, and writing them."""

from dataclasses import replace
from pathlib import Path

from jaxprotect.models.model import Model
from jaxprotect.models.weight_files import SINGLE, checksum
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.runs.packed_files import pack, packed_file_size
from jaxprotect.runs.prefix_files import PREFIX_FILE, prefix_file_size, save_prefix


def scheme_file_size(model: Model, scheme: Scheme) -> int:
    """Bytes of the packed weights and of the cached prefix, headers included.

    Args:
        model: the unquantized model (only shapes are read).
        scheme: how it is stored.

    Returns:
        The size, a Python int.
    """
    weights = packed_file_size(model.params, scheme.mask, scheme.spec, model.config, scheme.bits)
    return weights + (0 if scheme.prefix is None else prefix_file_size(scheme.prefix, model))


def pack_scheme(folder: Path, model: Model, scheme: Scheme) -> None:
    """Write a packed model, and its prefix beside it.

    Args:
        folder: a new or empty folder.
        model: the unquantized model.
        scheme: how to store it.

    Raises:
        InputError: the folder has files.
    """
    pack(
        folder,
        model,
        scheme.mask,
        scheme.spec,
        bits=scheme.bits,
        grids=scheme.grids,
        params=scheme.weights,
    )
    if scheme.prefix is not None:
        packed = replace(model, sha256=checksum(folder, [SINGLE]))
        save_prefix(folder / PREFIX_FILE, scheme.prefix, packed)
