"""A model by name whose weights stay in its files, asked for or because they do not fit."""

import math
from pathlib import Path
from typing import Literal

import jax

from jaxprotect.errors import InputError
from jaxprotect.free_memory import free_bytes
from jaxprotect.hosts import several
from jaxprotect.models import hub
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.meshes import mesh_for
from jaxprotect.models.model import Model
from jaxprotect.models.stored_model import StoredModel, open_stored
from jaxprotect.models.tokenizer_files import read_tokenizer
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.models.weight_files import INDEX, SINGLE
from jaxprotect.progress import tell
from jaxprotect.runs.banner import print_banner
from jaxprotect.runs.packed_loading import load_placed, packed_folder
from jaxprotect.trees import leaf_paths

Weights = Literal["auto", "memory", "files"]
"""Where the weights are while a command runs; `auto` leaves them in files if they do not fit."""


def open_model(name_or_folder: str | Path, *, revision: str | None = None) -> StoredModel:
    """A checkpoint whose weights stay in its files, for models larger than memory.

    Args:
        name_or_folder: as for `load_model`, with its weights in safetensors.
        revision: as for `load_model`.

    Returns:
        The model; `evaluate_streamed` and `masks.magnitude_cut` take it.

    Raises:
        InputError: as for `load_model`, or a packed folder, or weights in Flax's msgpack.
    """
    if packed_folder(name_or_folder, revision) is not None:
        raise InputError(
            f"`{name_or_folder}` is packed, and is computed with as it is in memory; weights stay "
            "in the files of a checkpoint alone: export it first, or use `load_model`"
        )
    folder, commit = hub.resolve(name_or_folder, revision=revision)
    config = load_config(folder)
    files, assigned = open_stored(folder, config)
    return StoredModel(
        config=config,
        tokenizer=read_tokenizer(folder, config),
        name=str(name_or_folder),
        revision=commit,
        files=files,
        assigned=assigned,
    )


def load_or_open(
    name: str,
    *,
    revision: str | None = None,
    mesh: str | None = None,
    weights: Weights = "auto",
    copies: float = 1.0,
) -> Model | StoredModel:
    """A model on its devices, or, on one device, with its weights in their files.

    Args:
        name: as for `load_model`.
        revision: as for `load_model`.
        mesh: as for `on_mesh`.
        weights: `files` or `memory`; `auto` leaves them in files, and says so, if there is one
            device, whose free memory is less than what would be needed.
        copies: bytes that are needed, in those of the float32 weights.

    Returns:
        What `load_placed` gives, or `open_model`.

    Raises:
        InputError: as those two, or `files` with a mesh or several hosts.
    """
    if weights == "files":
        if mesh is not None or several():
            found = f"`mesh` is {mesh}" if mesh is not None else "there are several hosts"
            raise InputError(f"`weights` is files, which works on one device; {found}")
        return _opened(name, revision)
    if weights == "auto" and not several() and packed_folder(name, revision) is None:
        folder, _ = hub.resolve(name, revision=revision)
        config = load_config(folder)
        can_stay = (folder / SINGLE).is_file() or (folder / INDEX).is_file()
        lacking = _lacking(config, copies) if mesh_for(config, mesh) is None else None
        if can_stay and lacking is not None:
            tell(f"{lacking}: they stay in their files, block by block")
            return _opened(name, revision)
    return load_placed(name, revision=revision, mesh=mesh)


def _opened(name: str, revision: str | None) -> StoredModel:
    model = open_model(name, revision=revision)
    print_banner(None)
    return model


def _lacking(config: ModelConfig, copies: float) -> str | None:
    """What does not fit, if something does not."""
    shapes = leaf_paths(parameter_shapes(config)).values()
    needed = copies * 4 * sum(math.prod(leaf.shape) for leaf in shapes)
    free = free_bytes(jax.devices()[0])
    if free is None or needed <= free:
        return None
    return f"the weights need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of memory are free"
