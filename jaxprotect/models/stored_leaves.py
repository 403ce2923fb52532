"""Tensors of a checkpoint -> leaves of the params: which fills which, and reading them."""

import math

import numpy as np

from jaxprotect.errors import InputError, listed
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.layouts import Part, from_stored, part_ranges, stored_shape
from jaxprotect.models.tensor_names import accepted_names, repeated_names, written_names
from jaxprotect.models.transformer import Params
from jaxprotect.models.weight_files import StoredTensor, WeightFiles
from jaxprotect.models.weight_maps import Slot
from jaxprotect.trees import leaf_paths

ALIGNMENT = 64
"""Bytes, of arrays that JAX does not copy."""

MANY = 1000
"""Layers, of which a model whose file has fewer tensors is refused at once."""

DTYPES: tuple[str, ...] = ("float32", "float16", "bfloat16")
"""Types that weights are stored in."""

Assigned = dict[tuple[str, int | None], tuple[str, Slot]]
"""(leaf path, layer or None) -> the name of the tensor that fills it, and its slot."""


def assign_tensors(files: WeightFiles, config: ModelConfig) -> Assigned:
    """Which tensor fills each leaf (and layer); none is read.

    Args:
        files: the weights of a checkpoint.
        config: the architecture.

    Returns:
        A tensor for every leaf outside the blocks, and for every layer of those inside.

    Raises:
        InputError: unknown, missing, doubly set, wrongly shaped or typed tensors, by name.
    """
    tensors = files.tensors
    if config.layers > max(MANY, len(tensors)):  # before that many names are made
        raise InputError(
            f"the checkpoint has {len(tensors)} tensors; expected the weights of a "
            f"{config.family} model with {config.layers} layers"
        )
    accepted = accepted_names(config, flax=files.flax)
    unknown = sorted(name for name in tensors if name not in accepted)
    if unknown:
        expected = f"the weights of a {config.family} model with {config.layers} layers"
        raise InputError(
            f"unknown tensor {listed(unknown, 3)} in the checkpoint; allowed: {expected}"
        )
    assigned: Assigned = {}
    repeats = repeated_names(config)
    for name in sorted(tensors):
        slot = accepted[name]
        if slot is None:
            continue  # a buffer
        place = (slot.leaf, slot.layer)
        if place in assigned and name in repeats:
            continue  # compared by `check_copies`
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
    for name, slot in assigned.values():  # before memory is taken for any
        _check(name, slot, tensors[name], config)
    return assigned


def _check(name: str, slot: Slot, stored: StoredTensor, config: ModelConfig) -> None:
    shape = stored_shape(slot, config)
    if stored.dtype not in DTYPES:
        raise InputError(f"tensor `{name}` is {stored.dtype}; allowed: {', '.join(DTYPES)}")
    if stored.shape != shape:
        raise InputError(f"tensor `{name}` has shape {stored.shape}; expected {shape}")


def read_tensor(
    name: str, slot: Slot, stored: StoredTensor, config: ModelConfig, part: Part | None = None
) -> np.ndarray:
    """One tensor, or a part of it, in the layout of its leaf, without a layer axis.

    Args:
        name: its name, for the message.
        slot: what it fills.
        stored: the tensor.
        config: the architecture.
        part: the part of the leaf; all of it by default.

    Returns:
        float32 values.

    Raises:
        InputError: values that are not finite.
    """
    if part is None:
        values = stored.read()
    else:
        assert stored.read_ranges is not None
        values = stored.read_ranges(*part_ranges(slot, config, part))
    values = values.astype(np.float32, copy=False)
    require_finite(values, f"tensor `{name}`")
    return from_stored(values, slot, config, part)


def require_finite(values: np.ndarray, what: str) -> None:
    """Refuse NaN and infinity, and say how many there are."""
    # They reach the extremes, so that no array of booleans is needed.
    if not np.isfinite(values.min()) or not np.isfinite(values.max()):
        count = values.size - int(np.isfinite(values).sum())
        raise InputError(f"{what} has {count} non-finite of {values.size} values; allowed: none")


def read_leaf(
    files: WeightFiles,
    assigned: Assigned,
    config: ModelConfig,
    path: str,
    shape: tuple[int, ...],
    *,
    layers: range,
    part: Part | None = None,
) -> np.ndarray:
    """A leaf, or a part of it, tensor by tensor.

    Args:
        files: the weights of a checkpoint.
        assigned: of `assign_tensors`.
        config: the architecture.
        path: leaf path.
        shape: of what is read.
        layers: which layers are stacked; of a leaf outside the blocks not looked at.
        part: the part of the leaf; all of it by default.

    Returns:
        float32 in memory that JAX's CPU backend takes over as it is; other memory it would copy.

    Raises:
        InputError: values that are not finite, by tensor.
    """

    def read(layer: int | None) -> np.ndarray:
        name, slot = assigned[path, layer]
        return read_tensor(name, slot, files.tensors[name], config, part)

    values = _aligned(shape)
    if layer_axis(path) is None:
        values[...] = read(None)
    else:
        for row, layer in enumerate(layers):
            values[row] = read(layer)
    return values


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def check_copies(
    files: WeightFiles, assigned: Assigned, params: Params, config: ModelConfig
) -> None:
    """Refuse tensors that repeat others, a tied head too, and are not their copies.

    Args:
        files: the weights of a checkpoint.
        assigned: of `assign_tensors`.
        params: what was read of it; leaves in the blocks are not looked at.
        config: the architecture.

    Raises:
        InputError: names the tensor and the one that it should be a copy of.
    """
    filled = {name for name, _ in assigned.values()}
    for name, slot in repeated_names(config).items():
        if name in files.tensors and name not in filled:
            _check(name, slot, files.tensors[name], config)
            again = read_tensor(name, slot, files.tensors[name], config)
            if not np.array_equal(again, on_host(leaf_paths(params)[slot.leaf])):
                first = assigned[slot.leaf, slot.layer][0]
                raise InputError(f"tensor `{name}` differs from `{first}`; expected a copy of it")
    if config.tied_head and ("head/kernel", None) in assigned:
        name, slot = assigned["head/kernel", None]
        head = read_tensor(name, slot, files.tensors[name], config)
        if not np.array_equal(head.T, on_host(params["embed"]["tokens"])):
            raise InputError(
                f"tensor `{name}` differs from the token embedding; expected a copy of it, as "
                "`tie_word_embeddings` is true"
            )
