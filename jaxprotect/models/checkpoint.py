"""Hugging Face folder -> params, and back."""

import json
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import array_of_parts, on_host
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import write_config
from jaxprotect.models.folders import refuse_used_folder, written_whole
from jaxprotect.models.layouts import Part, part_of, to_stored
from jaxprotect.models.meshes import partition
from jaxprotect.models.stored_leaves import (
    DTYPES,
    assign_tensors,
    check_copies,
    read_leaf,
    require_finite,
)
from jaxprotect.models.tensor_names import written_names
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.models.weight_files import SINGLE, WeightFiles, open_weights
from jaxprotect.progress import progress
from jaxprotect.trees import leaf_paths, map_leaves

WeightDtype = Literal["float32", "float16", "bfloat16"]


def load_params(
    folder: Path | str, config: ModelConfig, mesh: Mesh | None = None
) -> tuple[Params, str]:
    """Read a checkpoint's weights.

    Leaves are filled one after the other, tensor by tensor, so that the model is in memory once.
    On a mesh each host reads the parts that its devices hold, and nothing else of safetensors.

    Args:
        folder: a Hugging Face model folder with `model.safetensors`, its shards and index, or
            `flax_model.msgpack`.
        config: the architecture.
        mesh: where to put them; on the default device if None.

    Returns:
        float32 params, and the sha256 of the weight files' bytes in the order of their names.

    Raises:
        InputError: damaged files; unknown, missing, doubly set, wrongly shaped or typed, or
            non-finite tensors; a tied head that differs from the embedding.
    """
    files = open_weights(folder)
    sha256 = files.checksum()
    try:
        return _params(files, config, mesh), sha256
    except InputError as error:
        raise InputError(f"`{folder}`: {error}") from None


def _params(files: WeightFiles, config: ModelConfig, mesh: Mesh | None) -> Params:
    assigned = assign_tensors(files, config)

    def read(path: str, shape: tuple[int, ...], part: Part | None = None) -> np.ndarray:
        layers = range(config.layers)
        return read_leaf(files, assigned, config, path, shape, layers=layers, part=part)

    def fill(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        bar.update()
        if mesh is None:
            return jax.device_put(read(path, leaf.shape))
        sharding = partition(path, leaf.shape, mesh)
        if files.flax:  # its tensors come whole, and once
            whole = read(path, leaf.shape)
            return array_of_parts(leaf.shape, sharding, lambda index: whole[index])

        def held(index: tuple[slice, ...]) -> np.ndarray:
            sizes = zip(index, leaf.shape, strict=True)
            shape = tuple(len(range(*of.indices(size))) for of, size in sizes)
            return read(path, shape, part_of(path, leaf.shape, index))

        return array_of_parts(leaf.shape, sharding, held)

    shapes = parameter_shapes(config)
    bar = progress(desc="load", unit="tensor", total=len(leaf_paths(shapes)))
    params = map_leaves(fill, shapes)
    bar.close()
    check_copies(files, assigned, params, config)
    return params


def _stored_tensors(params: Params, config: ModelConfig, dtype: str) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint file, checked for shapes and values that `dtype` cannot hold."""
    leaves = leaf_paths(params)
    expected = leaf_paths(parameter_shapes(config))
    for path in sorted(leaves.keys() | expected.keys()):
        found = tuple(leaves[path].shape) if path in leaves else "nothing"
        wanted = expected[path].shape if path in expected else "nothing"
        if found != wanted:
            raise InputError(f"`params` at {path} has {found}; expected {wanted}")
    tensors = {}
    for name, slot in written_names(config).items():
        leaf = on_host(leaves[slot.leaf])
        values = to_stored(leaf if slot.layer is None else leaf[slot.layer], slot, config)
        with np.errstate(over="ignore"):  # reported below, by name
            tensors[name] = np.ascontiguousarray(values).astype(np.dtype(dtype), copy=False)
        require_finite(
            tensors[name].astype(np.float32, copy=False), f"`params` as {dtype}: tensor `{name}`"
        )
    return tensors


def _tokenizer_from_file(path: Path, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer of the `tokenizers` library; its only special token starts and ends texts."""
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise InputError(f"`tokenizer_file` {path} is not readable: {error}") from None
    special = [
        token.content for token in backend.get_added_tokens_decoder().values() if token.special
    ]
    named = {"bos_token": special[0], "eos_token": special[0]} if len(special) == 1 else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=context, **named)


def save_model_folder(
    folder: Path | str,
    params: Params,
    config: ModelConfig,
    *,
    tokenizer_file: Path | str | None = None,
    tokenizer: Any = None,
    dtype: WeightDtype = "float32",
) -> None:
    """Write an ordinary Hugging Face folder: config.json, model.safetensors, tokenizer files.

    Everything is written next to the folder and renamed at the end.

    Args:
        folder: a new or empty folder.
        params: parameter tree of `config`'s shapes.
        config: the architecture.
        tokenizer_file: a `tokenizer.json` of the `tokenizers` library.
        tokenizer: a `transformers` tokenizer, instead.
        dtype: type of the stored weights.

    Raises:
        InputError: the folder has files, an unknown dtype, two tokenizers, wrongly shaped params,
            or values that are not finite in `dtype`.
    """
    folder = Path(folder).absolute()
    refuse_used_folder("folder", folder)
    if dtype not in DTYPES:
        raise InputError(f"`dtype` is {dtype!r}; allowed: {', '.join(DTYPES)}")
    if tokenizer is not None and tokenizer_file is not None:
        raise InputError("`tokenizer` and `tokenizer_file` are both given; allowed: one of them")
    if tokenizer_file is not None:
        tokenizer = _tokenizer_from_file(Path(tokenizer_file), config.context)
    tensors = _stored_tensors(params, config, dtype)
    content = write_config(config) | {"torch_dtype": dtype}
    if tokenizer is not None:
        tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
        content |= {t: getattr(tokenizer, t) for t in tokens if content[t] is None}

    with written_whole(folder) as unfinished:
        if tokenizer is not None:
            tokenizer.save_pretrained(unfinished)
        (unfinished / "config.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        save_file(tensors, unfinished / SINGLE, metadata={"format": "pt"})
