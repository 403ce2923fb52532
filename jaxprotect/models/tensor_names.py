"""The tensor names of one architecture's checkpoints: those written, and all that are accepted."""

import re
from dataclasses import replace

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.families import get_family
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.models.weight_maps import EMBED, VOCAB, WEIGHT_MAPS, Slot
from jaxprotect.trees import leaf_paths


def _as_flax(slot: Slot, name: str) -> tuple[str, Slot]:
    """Flax's name and layout: kernels the other way round, embeddings and vectors unchanged.

    Its dense layers store (in, out) where torch's store (out, in), and the Flax port of GPT-2's
    Conv1D stores (out, in) where torch's stores (in, out).
    """
    ending = slot.leaf.rpartition("/")[2]
    ending = ending if ending in ("kernel", "scale", "bias") else "embedding"
    axes = slot.axes[::-1] if ending == "kernel" else slot.axes
    return f"{name.rpartition('.')[0]}.{ending}", replace(slot, axes=axes)


def _slots(config: ModelConfig) -> list[Slot]:
    """Every tensor of an architecture but its head, one slot per layer, in a fixed order."""
    slots, leaves = [], leaf_paths(parameter_shapes(config))
    for slot in WEIGHT_MAPS[config.family].slots:
        if slot.leaf not in leaves:
            continue  # biases and the final norm are optional
        if "{layer}" not in slot.name:
            slots.append(slot)
        for layer in range(config.layers if "{layer}" in slot.name else 0):
            slots.append(replace(slot, name=slot.name.format(layer=layer), layer=layer))
    return slots


def _head(name: str) -> Slot:
    return Slot(name=name, leaf="head/kernel", axes=(VOCAB, EMBED))


def written_names(config: ModelConfig) -> dict[str, Slot]:
    """The tensors of an architecture's checkpoint, under the names that `transformers` writes.

    Args:
        config: the architecture.

    Returns:
        Tensor name -> what it fills; a tied head is not among them.

    Raises:
        InputError: the family is not supported.
    """
    get_family(config.family)
    table = WEIGHT_MAPS[config.family]
    names = {table.prefixes[0] + slot.name: slot for slot in _slots(config)}
    names |= {slot.name: slot for slot in table.outside}
    return names if config.tied_head else names | {table.heads[0]: _head(table.heads[0])}


def repeated_names(config: ModelConfig) -> dict[str, Slot]:
    """The tensors that may be there beside another of the same weights.

    Args:
        config: the architecture.

    Returns:
        Tensor name -> what it repeats.
    """
    table = WEIGHT_MAPS[config.family]
    slots = {slot.name: slot for slot in table.outside}
    return {name: slots[repeated] for name, repeated in table.repeats.items()}


def accepted_names(config: ModelConfig, *, flax: bool = False) -> dict[str, Slot | None]:
    """Every tensor name that a checkpoint of the architecture may contain.

    Args:
        config: the architecture.
        flax: names and layouts of the Flax ports in `transformers` before version 5.

    Returns:
        Tensor name -> what it fills: equal slots under every prefix, `head/kernel` also where the
        head is tied, and None for buffers and weights that are not read, which are dropped.

    Raises:
        InputError: the family is not supported.
    """
    get_family(config.family)
    table = WEIGHT_MAPS[config.family]
    slots = {prefix + slot.name: slot for slot in _slots(config) for prefix in table.prefixes}
    slots |= {slot.name: slot for slot in table.outside}
    slots |= {name: slots[repeated] for name, repeated in table.repeats.items()}
    for now, before in table.older.items():
        old = {name.removesuffix(now) + before: name for name in slots if name.endswith(now)}
        slots |= {name: slots[renamed] for name, renamed in old.items()}
    slots |= {name: _head(table.heads[0]) for name in table.heads}
    dropped = (*table.buffers, *table.unread)
    if flax:
        slots = dict(_as_flax(slot, name) for name, slot in slots.items())
        # Its files have no buffers, and all that is not read are dense layers.
        dropped = tuple(re.sub(r"\.weight$", ".kernel", name) for name in table.unread)
    return slots | {
        prefix + name.format(layer=layer): None
        for prefix in table.prefixes
        for name in dropped
        for layer in range(config.layers)
    }
