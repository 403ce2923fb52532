"""Hugging Face configs <-> `ModelConfig`: whatever is not understood is refused.

A field is read, or known not to change the forward pass at inference, or must keep the value that
`transformers` gives it by default. So a checkpoint with an unknown twist is refused, not misread.
"""

import math
from dataclasses import asdict, fields
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from jaxprotect.errors import InputError, reason_of
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.families import get_family
from jaxprotect.models.family import COMMON_IGNORED, COMMON_ONLY, Family, Fields, refused
from jaxprotect.models.json_files import read_json
from jaxprotect.models.layers import ACTIVATIONS

PACKED = "jaxprotect"
"""`model_type` of packed weights: `transformers` refuses a type that it does not know, where it
would draw random weights for names that it does not find."""

MOST_LAYERS = 10_000
"""Of more, `transformers` would make lists as long before it refuses anything."""


def _require_sizes(values: Fields, family: Family) -> None:
    for name in ("layers", "width", "heads", "mlp_width", "vocab_size", "context"):
        size = values.get(name, 1)
        if type(size) is not int or not 0 < size < 2**31:
            raise refused(family.fields.get(name, name), size, "whole numbers above 0")


def _require_types(values: Fields, family: Family) -> None:
    """Flags, numbers and names are what the architecture's defaults are."""
    kinds = {field.name: type(field.default) for field in fields(ModelConfig)}
    for name, value in values.items():
        field = family.fields.get(name, name)
        if kinds[name] is float and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise refused(field, value, "numbers from 0")
        if kinds[name] in (bool, str) and type(value) is not kinds[name]:
            raise refused(field, value, {bool: "true or false", str: "a name"}[kinds[name]])


def _interpret(model_type: str, hf: Fields) -> ModelConfig:
    """The architecture that a complete set of config fields describes."""
    family = get_family(model_type)
    values = {ours: hf[theirs] for ours, theirs in family.fields.items()}
    _require_sizes(values, family)
    special = family.read_special(hf)
    _require_sizes(special, family)
    if values["width"] % values["heads"] and not special.get("own_head_size"):
        allowed = f"multiples of the {values['heads']} heads"
        raise refused(family.fields["width"], values["width"], allowed)
    values = family.constants | values | special
    _require_types(values, family)
    if values["activation"] not in ACTIVATIONS:
        allowed = ", ".join(sorted(ACTIVATIONS))
        raise refused(family.fields["activation"], values["activation"], allowed)
    return ModelConfig(family=model_type, **values)


def read_config(hf_config: PretrainedConfig) -> ModelConfig:
    """Read a `transformers` config, refusing whatever could change the forward pass unnoticed.

    Args:
        hf_config: as `AutoConfig` loads it, which brings old spellings up to date.

    Returns:
        The architecture.

    Raises:
        InputError: an unsupported `model_type`, or a field whose value is not supported.
    """
    family = get_family(hf_config.model_type)
    hf, defaults = hf_config.to_dict(), COMMON_ONLY | type(hf_config)().to_dict()
    known = {*family.fields.values(), *family.special, *family.ignored, *COMMON_IGNORED}
    for name, value in hf.items():
        if name in known or name.endswith("_token_id"):
            continue
        if name in defaults and value != defaults[name]:
            raise refused(name, value, repr(defaults[name]))
        # Empty says nothing. False does: `is_causal` turns off what is on where it is left out.
        if name not in defaults and value not in (None, {}, [], ""):
            raise refused(name, value, "leaving it out, as its meaning is not known")
    return _interpret(hf_config.model_type, hf)


def load_config(folder: Path | str) -> ModelConfig:
    """Read the architecture from a folder's `config.json`.

    Args:
        folder: a Hugging Face model folder.

    Returns:
        The architecture.

    Raises:
        InputError: no readable `config.json`, or one that `read_config` refuses.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise InputError(f"`{folder}` has no config.json; give a Hugging Face folder")
    raw = read_json(path)
    if raw.get("model_type") == PACKED:
        raw = raw | {"model_type": raw.pop("packed_model_type", None)}
    try:
        return read_config(_understood(raw))
    except InputError as error:
        raise InputError(f"`{path}`: {error}") from None


def _understood(raw: Fields) -> PretrainedConfig:
    family = get_family(raw.get("model_type"))
    layers = raw.get(family.fields["layers"])
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise refused(family.fields["layers"], layers, f"whole numbers up to {MOST_LAYERS}")
    try:
        # Not `from_pretrained`, which follows further file names in the config.
        understood = AutoConfig.for_model(**raw)
        understood.to_dict()  # which some values make fail
    except Exception as error:  # the validators of transformers raise many types
        raise InputError(f"it is refused by transformers: {reason_of(error)}") from None
    return understood


def mark_packed(content: Fields) -> Fields:
    """The content of `config.json` beside packed weights, which only this package reads."""
    return content | {"model_type": PACKED, "packed_model_type": content["model_type"]}


def write_config(config: ModelConfig) -> Fields:
    """The content of `config.json` for an architecture: `read_config`'s inverse.

    Args:
        config: the architecture.

    Returns:
        JSON-ready fields. Token ids are null, as the architecture does not know them, but for the
        padding of XLM-R, after whose row the positions start.

    Raises:
        InputError: the family's format has no place for one of the architecture's values.
    """
    family = get_family(config.family)
    hf: Fields = {"model_type": config.family, "architectures": [family.architecture]}
    hf |= {theirs: getattr(config, ours) for ours, theirs in family.fields.items()}
    hf |= {f"{token}_token_id": None for token in ("bos", "eos", "pad")}
    hf |= family.write_special(config)
    read_back = asdict(_interpret(config.family, hf))
    for field, value in asdict(config).items():
        if read_back[field] != value:
            allowed = f"{read_back[field]!r}, all that a {config.family} config.json can say"
            raise refused(field, value, allowed)
    return hf
