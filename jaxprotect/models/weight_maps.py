"""Checkpoint tensor names and layouts <-> leaves of the parameter tree, one table per family.

A row says which leaf a tensor fills and, for each axis of the stored tensor, which of the leaf's
named axes it runs over, outermost first; `layouts` moves the numbers.
"""

from dataclasses import dataclass, field, replace

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
        slots: every tensor but the head and `outside`.
        buffers: tensors that hold no weights; they may be present and are dropped.
        outside: further tensors, whose names take no prefix.
        repeats: name -> the name outside whose tensor it repeats; it may be there as well, or
            instead.
        older: endings of names -> what older files have in their place.
        unread: tensors of weights that no masked token goes through (BERT's pooler and its guess
            of the next sentence); they may be present, and are neither read nor written.
    """

    prefixes: tuple[str, ...]
    heads: tuple[str, ...]
    slots: tuple[Slot, ...]
    buffers: tuple[str, ...] = ()
    outside: tuple[Slot, ...] = ()
    repeats: dict[str, str] = field(default_factory=dict)
    older: dict[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


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


def _masked_head(head: str, dense: str, norm: str) -> tuple[Slot, ...]:
    """What stands before the table of a masked model's head, and the bias after it."""
    return (
        *_linear(f"{head}.{dense}", "head/transform", ("transformed",), EMBED),
        *_norm(f"{head}.{norm}", "norm"),
        Slot(name=f"{head}.bias", leaf="head/bias", axes=(VOCAB,)),
    )


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

_BERT_LAYER = "encoder.layer.{layer}"

_BERT = WeightMap(
    prefixes=("bert.", ""),
    heads=("cls.predictions.decoder.weight",),
    slots=(
        *_table("embeddings.word_embeddings", "embed/tokens", VOCAB),
        *_table("embeddings.position_embeddings", "embed/positions", ("position",)),
        *_table("embeddings.token_type_embeddings", "embed/types", ("type",)),
        *_norm("embeddings.LayerNorm", "embed/norm"),
        *_linear(f"{_BERT_LAYER}.attention.self.query", "blocks/attention/q", HEADS, EMBED),
        *_linear(f"{_BERT_LAYER}.attention.self.key", "blocks/attention/k", KEY_HEADS, EMBED),
        *_linear(f"{_BERT_LAYER}.attention.self.value", "blocks/attention/v", KEY_HEADS, EMBED),
        *_linear(f"{_BERT_LAYER}.attention.output.dense", "blocks/attention/out", EMBED, HEADS),
        *_norm(f"{_BERT_LAYER}.attention.output.LayerNorm", "blocks/norm_attention"),
        *_linear(f"{_BERT_LAYER}.intermediate.dense", "blocks/mlp/up", MLP, EMBED),
        *_linear(f"{_BERT_LAYER}.output.dense", "blocks/mlp/down", EMBED, MLP),
        *_norm(f"{_BERT_LAYER}.output.LayerNorm", "blocks/norm_mlp"),
    ),
    buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
    outside=_masked_head("cls.predictions", "transform.dense", "transform.LayerNorm"),
    repeats={"cls.predictions.decoder.bias": "cls.predictions.bias"},
    older={"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"},
    unread=(
        *("pooler.dense.weight", "pooler.dense.bias"),
        *("cls.seq_relationship.weight", "cls.seq_relationship.bias"),
    ),
)
_XLM_ROBERTA = replace(
    _BERT,
    prefixes=("roberta.", ""),
    heads=("lm_head.decoder.weight",),
    outside=_masked_head("lm_head", "dense", "layer_norm"),
    repeats={"lm_head.decoder.bias": "lm_head.bias"},
    unread=("pooler.dense.weight", "pooler.dense.bias"),
)
"""BERT's blocks, another head."""

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
    "bert": _BERT,
    "xlm-roberta": _XLM_ROBERTA,
}
"""The checkpoint's `model_type` -> its tensors."""
