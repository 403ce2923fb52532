"""Hugging Face folder -> params, and back."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from jaxprotect.errors import InputError, listed
from jaxprotect.host_arrays import array_of_parts, on_host
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import write_config
from jaxprotect.models.folders import refuse_used_folder, written_whole
from jaxprotect.models.layouts import (
    Part,
    from_stored,
    part_of,
    part_ranges,
    stored_shape,
    to_stored,
)
from jaxprotect.models.meshes import partition
from jaxprotect.models.tensor_names import accepted_names, repeated_names, written_names
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.models.weight_files import SINGLE, StoredTensor, WeightFiles, open_weights
from jaxprotect.models.weight_maps import Slot
from jaxprotect.progress import progress
from jaxprotect.trees import leaf_paths, map_leaves

ALIGNMENT = 64
"""Bytes, of arrays that JAX does not copy."""

MANY = 1000
"""Layers, of which a model whose file has fewer tensors is refused at once."""

WeightDtype = Literal["float32", "float16", "bfloat16"]
_DTYPES: tuple[str, ...] = ("float32", "float16", "bfloat16")


def _assign(
    tensors: dict[str, StoredTensor], config: ModelConfig, *, flax: bool
) -> dict[tuple[str, int | None], tuple[str, Slot]]:
    """Which tensor fills each leaf (and layer), checked for gaps, doubles and strangers."""
    if config.layers > max(MANY, len(tensors)):  # before that many names are made
        raise InputError(
            f"the checkpoint has {len(tensors)} tensors; expected the weights of a "
            f"{config.family} model with {config.layers} layers"
        )
    accepted = accepted_names(config, flax=flax)
    unknown = sorted(name for name in tensors if name not in accepted)
    if unknown:
        expected = f"the weights of a {config.family} model with {config.layers} layers"
        raise InputError(
            f"unknown tensor {listed(unknown, 3)} in the checkpoint; allowed: {expected}"
        )
    assigned: dict[tuple[str, int | None], tuple[str, Slot]] = {}
    repeats = repeated_names(config)
    for name in sorted(tensors):
        slot = accepted[name]
        if slot is None:
            continue  # a buffer
        place = (slot.leaf, slot.layer)
        if place in assigned and name in repeats:
            continue  # compared in `_params`
        if place in assigned:
            raise InputError(f"tensors `{assigned[place][0]}` and `{name}` are the same weight")
        assigned[place] = (name, slot)
    needed = written_names(config)
    missing = sorted(n for n, slot in needed.items() if (slot.leaf, slot.layer) not in assigned)
    if missing:
        raise InputError(
            f"missing tensor {listed(missing, 3)}: the checkpoint has "
            f"{len(needed) - len(missing)} of the {len(needed)} that a {config.family} model with "
            f"{config.layers} layers needs"
        )
    return assigned


def _check(name: str, slot: Slot, stored: StoredTensor, config: ModelConfig) -> None:
    shape = stored_shape(slot, config)
    if stored.dtype not in _DTYPES:
        raise InputError(f"tensor `{name}` is {stored.dtype}; allowed: {', '.join(_DTYPES)}")
    if stored.shape != shape:
        raise InputError(f"tensor `{name}` has shape {stored.shape}; expected {shape}")


def _read(
    name: str, slot: Slot, stored: StoredTensor, config: ModelConfig, part: Part | None = None
) -> np.ndarray:
    """One tensor, or a part of it, in the layout of its leaf, checked for non-finite values."""
    if part is None:
        values = stored.read()
    else:
        assert stored.read_ranges is not None
        values = stored.read_ranges(*part_ranges(slot, config, part))
    values = values.astype(np.float32, copy=False)
    _require_finite(values, f"tensor `{name}`")
    return from_stored(values, slot, config, part)


def _require_finite(values: np.ndarray, what: str) -> None:
    # NaN and infinity reach the extremes, so that no array of booleans is needed.
    if not np.isfinite(values.min()) or not np.isfinite(values.max()):
        count = values.size - int(np.isfinite(values).sum())
        raise InputError(f"{what} has {count} non-finite of {values.size} values; allowed: none")


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """float32 memory that JAX's CPU backend takes over as it is; other memory it would copy."""
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


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
    try:
        return _params(files, config, mesh), files.sha256
    except InputError as error:
        raise InputError(f"`{folder}`: {error}") from None


def _params(files: WeightFiles, config: ModelConfig, mesh: Mesh | None) -> Params:
    assigned = _assign(files.tensors, config, flax=files.flax)
    for name, slot in assigned.values():  # before memory is taken for any
        _check(name, slot, files.tensors[name], config)

    def read(leaf: str, layer: int | None, part: Part | None = None) -> np.ndarray:
        name, slot = assigned[leaf, layer]
        return _read(name, slot, files.tensors[name], config, part)

    def filled_leaf(path: str, shape: tuple[int, ...], part: Part | None = None) -> np.ndarray:
        values = _aligned(shape)
        if path.startswith("blocks/"):
            for layer in range(config.layers):
                values[layer] = read(path, layer, part)
        else:
            values[...] = read(path, None, part)
        return values

    def fill(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        bar.update()
        if mesh is None:
            return jax.device_put(filled_leaf(path, leaf.shape))
        sharding = partition(path, leaf.shape, mesh)
        if files.flax:  # its tensors come whole, and once
            whole = filled_leaf(path, leaf.shape)
            return array_of_parts(leaf.shape, sharding, lambda index: whole[index])

        def held(index: tuple[slice, ...]) -> np.ndarray:
            sizes = zip(index, leaf.shape, strict=True)
            shape = tuple(len(range(*of.indices(size))) for of, size in sizes)
            return filled_leaf(path, shape, part_of(path, leaf.shape, index))

        return array_of_parts(leaf.shape, sharding, held)

    shapes = parameter_shapes(config)
    bar = progress(desc="load", unit="tensor", total=len(leaf_paths(shapes)))
    params = map_leaves(fill, shapes)
    bar.close()
    filled = {name for name, _ in assigned.values()}
    for name, slot in repeated_names(config).items():
        if name in files.tensors and name not in filled:
            _check(name, slot, files.tensors[name], config)
            again = _read(name, slot, files.tensors[name], config)
            if not np.array_equal(again, on_host(leaf_paths(params)[slot.leaf])):
                first = assigned[slot.leaf, slot.layer][0]
                raise InputError(f"tensor `{name}` differs from `{first}`; expected a copy of it")
    if config.tied_head and ("head/kernel", None) in assigned:
        name = assigned["head/kernel", None][0]
        if not np.array_equal(read("head/kernel", None).T, on_host(params["embed"]["tokens"])):
            raise InputError(
                f"tensor `{name}` differs from the token embedding; expected a copy of it, as "
                "`tie_word_embeddings` is true"
            )
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
        _require_finite(
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
    if dtype not in _DTYPES:
        raise InputError(f"`dtype` is {dtype!r}; allowed: {', '.join(_DTYPES)}")
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
