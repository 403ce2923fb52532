"""Checkpoint tensor names and layouts <-> leaves of the parameter tree, one table per family.

A row says which leaf a tensor fills and, for each axis of the stored tensor, which of the leaf's
named axes it runs over, outermost first; `layouts` moves the numbers.
"""

from dataclasses import dataclass, replace

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.families import get_family
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths

Group = tuple[str, ...]

EMBED: Group = ("embed",)
MLP: Group = ("mlp",)
VOCAB: Group = ("vocab",)
HEADS: Group = ("heads", "head_dim")
KEY_HEADS: Group = ("key_heads", "head_dim")
QKV_BY_PART: Group = ("qkv", "heads", "head_dim")
"""All queries, then all keys, then all values (GPT-2)."""
QKV_BY_HEAD: Group = ("heads", "qkv", "head_dim")
"""Query, key and value of one head, then those of the next (GPT-NeoX, BLOOM)."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where one checkpoint tensor goes.

    Args:
        name: the tensor's name, without the family's prefix; `{layer}` is the block's index.
        leaf: path of the parameter leaf.
        axes: for each axis of the stored tensor, the leaf's axes that it runs over.
        layer: index into the leaf's leading layer axis; None outside the blocks.
    """

    name: str
    leaf: str
    axes: tuple[Group, ...]
    layer: int | None = None


@dataclass(frozen=True, kw_only=True)
class WeightMap:
    """All tensors of a family.

    Args:
        prefixes: what may stand before the names; files are written with the first.
        heads: names of the head, which take no prefix; files are written with the first.
        slots: every tensor but the head.
        buffers: tensors that hold no weights; they may be present and are dropped.
    """

    prefixes: tuple[str, ...]
    heads: tuple[str, ...]
    slots: tuple[Slot, ...]
    buffers: tuple[str, ...] = ()


def _table(name: str, table: str, rows: Group) -> tuple[Slot, ...]:
    return (Slot(name=f"{name}.weight", leaf=table, axes=(rows, EMBED)),)


def _norm(name: str, module: str) -> tuple[Slot, ...]:
    scale = Slot(name=f"{name}.weight", leaf=f"{module}/scale", axes=(EMBED,))
    return scale, Slot(name=f"{name}.bias", leaf=f"{module}/bias", axes=(EMBED,))


def _linear(name: str, module: str, outputs: Group, inputs: Group) -> tuple[Slot, ...]:
    kernel = Slot(name=f"{name}.weight", leaf=f"{module}/kernel", axes=(outputs, inputs))
    return kernel, Slot(name=f"{name}.bias", leaf=f"{module}/bias", axes=(outputs,))


def _conv1d(name: str, module: str, outputs: Group, inputs: Group) -> tuple[Slot, ...]:
    """GPT-2's linear layer, which stores the inputs first."""
    kernel, bias = _linear(name, module, outputs, inputs)
    return replace(kernel, axes=(inputs, outputs)), bias


_LLAMA = WeightMap(
    prefixes=("model.", ""),
    heads=("lm_head.weight",),
    slots=(
        *_table("embed_tokens", "embed/tokens", VOCAB),
        *_norm("layers.{layer}.input_layernorm", "blocks/norm_attention"),
        *_linear("layers.{layer}.self_attn.q_proj", "blocks/attention/q", HEADS, EMBED),
        *_linear("layers.{layer}.self_attn.k_proj", "blocks/attention/k", KEY_HEADS, EMBED),
        *_linear("layers.{layer}.self_attn.v_proj", "blocks/attention/v", KEY_HEADS, EMBED),
        *_linear("layers.{layer}.self_attn.o_proj", "blocks/attention/out", EMBED, HEADS),
        *_norm("layers.{layer}.post_attention_layernorm", "blocks/norm_mlp"),
        *_linear("layers.{layer}.mlp.gate_proj", "blocks/mlp/gate", MLP, EMBED),
        *_linear("layers.{layer}.mlp.up_proj", "blocks/mlp/up", MLP, EMBED),
        *_linear("layers.{layer}.mlp.down_proj", "blocks/mlp/down", EMBED, MLP),
        *_norm("norm", "norm"),
    ),
    buffers=("layers.{layer}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
)
"""Llama's names, which Mistral and Qwen2 took over."""

WEIGHT_MAPS: dict[str, WeightMap] = {
    "gpt2": WeightMap(
        prefixes=("transformer.", ""),
        heads=("lm_head.weight",),
        slots=(
            *_table("wte", "embed/tokens", VOCAB),
            *_table("wpe", "embed/positions", ("position",)),
            *_norm("h.{layer}.ln_1", "blocks/norm_attention"),
            *_conv1d("h.{layer}.attn.c_attn", "blocks/attention/qkv", QKV_BY_PART, EMBED),
            *_conv1d("h.{layer}.attn.c_proj", "blocks/attention/out", EMBED, HEADS),
            *_norm("h.{layer}.ln_2", "blocks/norm_mlp"),
            *_conv1d("h.{layer}.mlp.c_fc", "blocks/mlp/up", MLP, EMBED),
            *_conv1d("h.{layer}.mlp.c_proj", "blocks/mlp/down", EMBED, MLP),
            *_norm("ln_f", "norm"),
        ),
        buffers=("h.{layer}.attn.bias", "h.{layer}.attn.masked_bias"),
    ),
    "opt": WeightMap(
        prefixes=("model.decoder.", "decoder.", ""),
        heads=("lm_head.weight",),
        slots=(
            *_table("embed_tokens", "embed/tokens", VOCAB),
            *_table("embed_positions", "embed/positions", ("position",)),
            *_norm("layers.{layer}.self_attn_layer_norm", "blocks/norm_attention"),
            *_linear("layers.{layer}.self_attn.q_proj", "blocks/attention/q", HEADS, EMBED),
            *_linear("layers.{layer}.self_attn.k_proj", "blocks/attention/k", KEY_HEADS, EMBED),
            *_linear("layers.{layer}.self_attn.v_proj", "blocks/attention/v", KEY_HEADS, EMBED),
            *_linear("layers.{layer}.self_attn.out_proj", "blocks/attention/out", EMBED, HEADS),
            *_norm("layers.{layer}.final_layer_norm", "blocks/norm_mlp"),
            *_linear("layers.{layer}.fc1", "blocks/mlp/up", MLP, EMBED),
            *_linear("layers.{layer}.fc2", "blocks/mlp/down", EMBED, MLP),
            *_norm("final_layer_norm", "norm"),
        ),
    ),
    "gpt_neox": WeightMap(
        prefixes=("gpt_neox.", ""),
        heads=("embed_out.weight", "lm_head.weight"),
        slots=(
            *_table("embed_in", "embed/tokens", VOCAB),
            *_norm("layers.{layer}.input_layernorm", "blocks/norm_attention"),
            *_linear(
                "layers.{layer}.attention.query_key_value",
                "blocks/attention/qkv",
                QKV_BY_HEAD,
                EMBED,
            ),
            *_linear("layers.{layer}.attention.dense", "blocks/attention/out", EMBED, HEADS),
            *_norm("layers.{layer}.post_attention_layernorm", "blocks/norm_mlp"),
            *_linear("layers.{layer}.mlp.dense_h_to_4h", "blocks/mlp/up", MLP, EMBED),
            *_linear("layers.{layer}.mlp.dense_4h_to_h", "blocks/mlp/down", EMBED, MLP),
            *_norm("final_layer_norm", "norm"),
        ),
        buffers=(
            "layers.{layer}.attention.bias",
            "layers.{layer}.attention.masked_bias",
            "layers.{layer}.attention.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
        ),
    ),
    "bloom": WeightMap(
        prefixes=("transformer.", ""),
        heads=("lm_head.weight",),
        slots=(
            *_table("word_embeddings", "embed/tokens", VOCAB),
            *_norm("word_embeddings_layernorm", "embed/norm"),
            *_norm("h.{layer}.input_layernorm", "blocks/norm_attention"),
            *_linear(
                "h.{layer}.self_attention.query_key_value",
                "blocks/attention/qkv",
                QKV_BY_HEAD,
                EMBED,
            ),
            *_linear("h.{layer}.self_attention.dense", "blocks/attention/out", EMBED, HEADS),
            *_norm("h.{layer}.post_attention_layernorm", "blocks/norm_mlp"),
            *_linear("h.{layer}.mlp.dense_h_to_4h", "blocks/mlp/up", MLP, EMBED),
            *_linear("h.{layer}.mlp.dense_4h_to_h", "blocks/mlp/down", EMBED, MLP),
            *_norm("ln_f", "norm"),
        ),
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
}
"""The checkpoint's `model_type` -> its tensors."""


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
    return names if config.tied_head else names | {table.heads[0]: _head(table.heads[0])}


def accepted_names(config: ModelConfig, *, flax: bool = False) -> dict[str, Slot | None]:
    """Every tensor name that a checkpoint of the architecture may contain.

    Args:
        config: the architecture.
        flax: names and layouts of the Flax ports in `transformers` before version 5.

    Returns:
        Tensor name -> what it fills: equal slots under every prefix, `head/kernel` also where the
        head is tied, and None for buffers, which are dropped.

    Raises:
        InputError: the family is not supported.
    """
    get_family(config.family)
    table = WEIGHT_MAPS[config.family]
    slots = {prefix + slot.name: slot for slot in _slots(config) for prefix in table.prefixes}
    slots |= {name: _head(table.heads[0]) for name in table.heads}
    if flax:
        return dict(_as_flax(slot, name) for name, slot in slots.items())
    buffers = {
        prefix + name.format(layer=layer): None
        for prefix in table.prefixes
        for name in table.buffers
        for layer in range(config.layers)
    }
    return slots | buffers
