"""Llama, Mistral and Qwen2: RMS norms, rotary positions, grouped keys and values, a gated MLP."""

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.family import Family, Fields, refused
from jaxprotect.models.rope_fields import read_rope, write_rope

FULL, SLIDING = "full_attention", "sliding_attention"

_FIELDS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "activation": "hidden_act",
    "norm_epsilon": "rms_norm_eps",
    "tied_head": "tie_word_embeddings",
}
_CONSTANTS: Fields = {"positions": "rotary", "norm": "rms", "gated_mlp": True, "fused_qkv": False}
UNUSUAL = ("rope_interleaved", "use_mrope")
"""Fields of other models' rotary positions, which checkpoints of these types set to false."""

_SPECIAL = frozenset({"num_key_value_heads", "head_dim", "rope_parameters", *UNUSUAL})


def _read_llama(hf: Fields) -> Fields:
    for name in UNUSUAL:
        if hf.get(name):
            raise refused(name, hf[name], "false, or leaving it out")
    width, heads, keys = (
        hf[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    keys = heads if keys is None else keys
    if type(keys) is not int or keys < 1 or heads % keys:
        raise refused("num_key_value_heads", keys, f"divisors of the {heads} heads")
    given = hf.get("head_dim")
    size = width // heads if given is None else given
    if given is None and (size < 1 or size % 2):
        raise refused("hidden_size", width, f"an even number above 0 for each of {heads} heads")
    if type(size) is not int or size < 1 or size % 2:
        raise refused("head_dim", size, "even whole numbers above 0")
    return {
        "queries_per_key": heads // keys,
        "own_head_size": 0 if given is None or size * heads == width else size,
        "rotary_dim": size,
        **read_rope(hf["rope_parameters"]),
    }


def _write_llama(config: ModelConfig) -> Fields:
    rope = write_rope(config)
    own = {"head_dim": config.own_head_size} if config.own_head_size else {}
    # Where transformers before version 5 look.
    older: Fields = {"rope_theta": rope["rope_theta"]}
    if config.rotary_scaling is not None:
        older["rope_scaling"] = {name: v for name, v in rope.items() if name != "rope_theta"}
    return {"num_key_value_heads": config.key_heads, "rope_parameters": rope} | own | older


def _window(hf: Fields) -> int:
    window = hf["sliding_window"]
    if type(window) is not int or window < 1:
        raise refused("sliding_window", window, "whole numbers above 0")
    return window


def _read_mistral(hf: Fields) -> Fields:
    return _read_llama(hf) | {"window": 0 if hf["sliding_window"] is None else _window(hf)}


def _write_mistral(config: ModelConfig) -> Fields:
    return _write_llama(config) | {"sliding_window": config.window or None}


def _read_qwen2(hf: Fields) -> Fields:
    layers, kinds = hf["num_hidden_layers"], hf["layer_types"]
    full = kinds.count(FULL) if isinstance(kinds, list) else 0
    if not isinstance(kinds, list) or kinds != [FULL] * full + [SLIDING] * (layers - full):
        allowed = f"{FULL!r} for the first of the {layers} layers, {SLIDING!r} for the rest"
        raise refused("layer_types", kinds, allowed)
    windows = {"window": _window(hf), "window_from_layer": full} if full < layers else {}
    return _read_llama(hf) | windows


def _write_qwen2(config: ModelConfig) -> Fields:
    full = config.window_from_layer if config.window else config.layers
    return _write_llama(config) | {
        "use_sliding_window": config.window > 0,
        "sliding_window": config.window or None,
        "max_window_layers": full,
        "layer_types": [FULL] * full + [SLIDING] * (config.layers - full),
    }


LLAMA = Family(
    architecture="LlamaForCausalLM",
    fields=_FIELDS | {"attention_bias": "attention_bias", "mlp_bias": "mlp_bias"},
    constants=_CONSTANTS,
    special=_SPECIAL,
    read_special=_read_llama,
    write_special=_write_llama,
    ignored=frozenset({"attention_dropout", "pretraining_tp", "is_llama_config"}),
)
MISTRAL = Family(
    architecture="MistralForCausalLM",
    fields=_FIELDS,
    constants=_CONSTANTS | {"attention_bias": False, "mlp_bias": False},
    special=_SPECIAL | {"sliding_window"},
    read_special=_read_mistral,
    write_special=_write_mistral,
    ignored=frozenset({"attention_dropout"}),
)
QWEN2 = Family(
    architecture="Qwen2ForCausalLM",
    fields=_FIELDS,
    constants=_CONSTANTS | {"out_bias": False, "mlp_bias": False},
    special=_SPECIAL | {"sliding_window", "layer_types"},
    read_special=_read_qwen2,
    write_special=_write_qwen2,
    # `layer_types` holds what these two say.
    ignored=frozenset({"attention_dropout", "use_sliding_window", "max_window_layers"}),
)
