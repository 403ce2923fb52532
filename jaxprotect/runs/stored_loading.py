"""A model by name whose weights stay in its files, asked for or because they do not fit."""

from pathlib import Path

from jaxprotect.errors import InputError
from jaxprotect.models import hub
from jaxprotect.models.config_files import load_config
from jaxprotect.models.stored_model import StoredModel, open_stored
from jaxprotect.models.tokenizer_files import read_tokenizer
from jaxprotect.runs.packed_loading import packed_folder


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
