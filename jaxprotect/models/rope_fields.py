"""The field `rope_parameters` of a config: how rotary frequencies are made."""

import math
from typing import Any

from jaxprotect.models.config import ModelConfig, RotaryScaling
from jaxprotect.models.family import Fields, refused

KINDS = ("default", "linear", "llama3")
"""`rope_type`s that `positions` computes."""

_NUMBERS = {
    "factor": "factor",
    "low_freq_factor": "low",
    "high_freq_factor": "high",
    "original_max_position_embeddings": "original_context",
}
"""The checkpoint's number -> the field of `RotaryScaling`."""

_NEEDED = {"default": (), "linear": ("factor",), "llama3": tuple(_NUMBERS)}


def read_rope(rope: Any, *, kinds: tuple[str, ...] = KINDS, own: tuple[str, ...] = ()) -> Fields:
    """What `rope_parameters` says of the frequencies.

    Args:
        rope: the field's value.
        kinds: `rope_type`s that the family has here.
        own: further entries, which the family reads itself.

    Returns:
        `rotary_theta` and `rotary_scaling` of the architecture.

    Raises:
        InputError: another kind, a number that is missing or out of range, or an unknown entry.
    """
    if not isinstance(rope, dict):
        raise refused("rope_parameters", rope, "an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in kinds:
        raise refused("rope_parameters.rope_type", kind, ", ".join(map(repr, kinds)))
    if rope.get("type", kind) != kind:
        raise refused("rope_parameters.type", rope["type"], repr(kind))
    needed = _NEEDED[kind]
    for name, value in rope.items():
        known = name in ("rope_type", "type", "rope_theta", *needed, *own)
        if not known and value is not None:
            raise refused(f"rope_parameters.{name}", value, "leaving it out")
    numbers = {_NUMBERS[name]: _number(rope, name) for name in needed}
    if kind == "llama3" and numbers["high"] <= numbers["low"]:
        allowed = f"numbers above `low_freq_factor` ({numbers['low']})"
        raise refused("rope_parameters.high_freq_factor", numbers["high"], allowed)
    return {
        "rotary_theta": float(_number(rope, "rope_theta")),
        "rotary_scaling": RotaryScaling(kind=kind, **numbers) if needed else None,
    }


def _number(rope: Fields, name: str) -> Any:
    value: Any = rope.get(name)
    whole = name.startswith("original")
    if type(value) not in ((int,) if whole else (int, float)) or not 0 < value < math.inf:
        kind = "whole numbers" if whole else "numbers"
        raise refused(f"rope_parameters.{name}", value, f"{kind} above 0")
    return value


def write_rope(config: ModelConfig) -> Fields:
    """The inverse of `read_rope`.

    Args:
        config: an architecture with rotary positions.

    Returns:
        The field's value.
    """
    rope: Fields = {"rope_theta": config.rotary_theta, "rope_type": "default"}
    scaling = config.rotary_scaling
    if scaling is None:
        return rope
    numbers = {name: getattr(scaling, _NUMBERS[name]) for name in _NEEDED[scaling.kind]}
    return rope | {"rope_type": scaling.kind} | numbers
