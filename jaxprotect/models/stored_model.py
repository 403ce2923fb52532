"""A checkpoint whose weights stay in its files: read leaf by leaf, or block by block."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError

from jaxprotect.errors import InputError, reason_of
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.stored_leaves import (
    Assigned,
    assign_tensors,
    check_copies,
    read_leaf,
    read_tensor,
)
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.models.weight_files import FLAX, WeightFiles, open_weights
from jaxprotect.trees import map_leaves


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """A checkpoint of which only the names and shapes of the tensors are in memory.

    Args:
        config: the architecture.
        tokenizer: the checkpoint's `transformers` tokenizer.
        name: hub id or folder, as the user gave it.
        revision: commit of the hub repository; None for a folder.
        files: its safetensors files.
        assigned: which tensor fills which leaf.
    """

    config: ModelConfig
    tokenizer: Any
    name: str
    revision: str | None = None
    files: WeightFiles
    assigned: Assigned


def open_stored(folder: Path, config: ModelConfig) -> tuple[WeightFiles, Assigned]:
    """The weights of a folder, checked by names, types and shapes, and not read.

    Args:
        folder: a Hugging Face model folder with safetensors, whole or sharded.
        config: the architecture.

    Returns:
        The files, and which tensor fills which leaf.

    Raises:
        InputError: weights that only Flax's msgpack holds, damaged files, or unknown, missing,
            doubly set, wrongly shaped or typed tensors.
    """
    files = open_weights(folder)
    with _in_folder(files):
        if files.flax:
            raise InputError(
                f"the weights are in {FLAX}, which can only be read whole; weights stay in "
                "safetensors files alone: save the model in that form"
            )
        return files, assign_tensors(files, config)


@contextmanager
def _in_folder(files: WeightFiles) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"`{files.folder}`: {error}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"`{files.folder}` has changed since it was opened: {reason_of(error)}"
        ) from None


AsKept = Callable[[str, int | None, jax.Array], jax.Array]
"""(leaf path, layer or None, leaf) -> what is kept of it, such as the leaf quantized."""


def read_outside(model: StoredModel, as_kept: AsKept) -> Params:
    """Embeddings, last norm and head: all but the blocks.

    Args:
        model: the checkpoint.
        as_kept: what is kept of each leaf, once all are read and copies are compared.

    Returns:
        A tree like the params, without `blocks`.

    Raises:
        InputError: values that are not finite, a tied head that differs from the embedding, or
            files that have changed.
    """
    shapes = parameter_shapes(model.config)
    del shapes["blocks"]
    with _in_folder(model.files):
        read = map_leaves(lambda path, leaf: _read(model, path, leaf.shape, range(0)), shapes)
        check_copies(model.files, model.assigned, read, model.config)
    return map_leaves(lambda path, leaf: as_kept(path, None, leaf), read)


def read_block(model: StoredModel, layer: int, as_kept: AsKept) -> Params:
    """One block.

    Args:
        model: the checkpoint.
        layer: which.
        as_kept: what is kept of each leaf, before the next is read.

    Returns:
        A tree like `blocks` of the params: this layer alone, stacked by itself.

    Raises:
        InputError: values that are not finite, or files that have changed.
    """
    shapes = {"blocks": parameter_shapes(model.config)["blocks"]}
    only = range(layer, layer + 1)

    def leaf(path: str, whole: jax.ShapeDtypeStruct) -> jax.Array:
        return as_kept(path, layer, _read(model, path, (1, *whole.shape[1:]), only))

    with _in_folder(model.files):
        return map_leaves(leaf, shapes)["blocks"]


def _read(model: StoredModel, path: str, shape: tuple[int, ...], layers: range) -> jax.Array:
    files, assigned = model.files, model.assigned
    return jax.device_put(read_leaf(files, assigned, model.config, path, shape, layers=layers))


def read_stored(model: StoredModel, path: str, layer: int | None) -> np.ndarray:
    """One tensor of a checkpoint, on the host and in the layout of its leaf.

    Args:
        model: the checkpoint.
        path: leaf path.
        layer: which, in the blocks; else None.

    Returns:
        float32 values, without a layer axis.

    Raises:
        InputError: values that are not finite, or files that have changed.
    """
    name, slot = model.assigned[path, layer]
    with _in_folder(model.files):
        return read_tensor(name, slot, model.files.tensors[name], model.config)


def blocks_in_turn(model: StoredModel, as_kept: AsKept) -> Iterator[tuple[int, Params]]:
    """Every block of a checkpoint, the next one read while this one is used.

    There are never more than two, if the caller drops each before it asks for the next.

    Args:
        model: the checkpoint.
        as_kept: what is kept of each leaf, before the next is read.

    Yields:
        A layer's number, and what `read_block` gives.

    Raises:
        InputError: see `read_block`.
    """
    layers = model.config.layers
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read") as reader:
        coming = [reader.submit(read_block, model, 0, as_kept)]
        for layer in range(layers):
            here = coming.pop().result()
            if layer + 1 < layers:
                coming.append(reader.submit(read_block, model, layer + 1, as_kept))
            yield layer, here
            del here
