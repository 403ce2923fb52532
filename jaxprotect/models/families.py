"""What each family calls the fields of its config: one entry per `model_type`, read and written.

The fields of an entry that are neither read nor ignored must keep their defaults (`config_files`).
"""

import math

from jaxprotect.models.bert_families import BERT, XLM_ROBERTA
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.family import Family, Fields, refused
from jaxprotect.models.llama_families import LLAMA, MISTRAL, QWEN2
from jaxprotect.models.rope_fields import read_rope, write_rope


def _read_gpt2(hf: Fields) -> Fields:
    inner = hf["n_inner"]
    return {"mlp_width": 4 * hf["n_embd"] if inner is None else inner}


def _write_gpt2(config: ModelConfig) -> Fields:
    return {"n_inner": config.mlp_width}


def _read_opt(hf: Fields) -> Fields:
    if hf["word_embed_proj_dim"] != hf["hidden_size"]:
        allowed = f"`hidden_size` ({hf['hidden_size']}), as embedding projections are not supported"
        raise refused("word_embed_proj_dim", hf["word_embed_proj_dim"], allowed)
    return {"final_norm": not hf["_remove_final_layer_norm"]}


def _write_opt(config: ModelConfig) -> Fields:
    return {
        "word_embed_proj_dim": config.width,
        "_remove_final_layer_norm": not config.final_norm,
        "do_layer_norm_before": True,
    }


def _read_gpt_neox(hf: Fields) -> Fields:
    rope = read_rope(hf["rope_parameters"], kinds=("default",), own=("partial_rotary_factor",))
    fraction = hf["rope_parameters"].get("partial_rotary_factor", 1.0)
    head_size = hf["hidden_size"] // hf["num_attention_heads"]
    rotary_dim = int(head_size * fraction) if isinstance(fraction, (int, float)) else 0
    if rotary_dim % 2 or not 0 < rotary_dim <= head_size:
        allowed = f"a share of the {head_size} head dimensions that is even and above 0"
        raise refused("rope_parameters.partial_rotary_factor", fraction, allowed)
    return rope | {"rotary_dim": rotary_dim}


def _write_gpt_neox(config: ModelConfig) -> Fields:
    fraction = config.rotary_dim / config.head_size
    if int(config.head_size * fraction) != config.rotary_dim:
        # The reader truncates, so a quotient rounded down would lose a dimension.
        fraction = math.nextafter(fraction, math.inf)
    share = {"partial_rotary_factor": fraction}
    older = {"rotary_emb_base": config.rotary_theta, "rotary_pct": fraction}
    return {"rope_parameters": write_rope(config) | share} | older


def _read_bloom(hf: Fields) -> Fields:
    width = 4 * hf["hidden_size"]
    if hf.get("n_inner") not in (None, width):
        raise refused("n_inner", hf["n_inner"], f"null or 4 x `hidden_size` ({width})")
    return {"mlp_width": width, "context": hf.get("seq_length") or 2048}


def _write_bloom(config: ModelConfig) -> Fields:
    return {"seq_length": config.context}


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        architecture="GPT2LMHeadModel",
        fields={
            "layers": "n_layer",
            "width": "n_embd",
            "heads": "n_head",
            "vocab_size": "vocab_size",
            "context": "n_positions",
            "activation": "activation_function",
            "norm_epsilon": "layer_norm_epsilon",
            "tied_head": "tie_word_embeddings",
            "scale_attention": "scale_attn_weights",
            "scale_by_layer": "scale_attn_by_inverse_layer_idx",
        },
        constants={"positions": "learned"},
        special=frozenset({"n_inner"}),
        read_special=_read_gpt2,
        write_special=_write_gpt2,
        ignored=frozenset(
            {
                *("resid_pdrop", "embd_pdrop", "attn_pdrop", "n_ctx", "reorder_and_upcast_attn"),
                *("summary_type", "summary_use_proj", "summary_activation"),
                *("summary_proj_to_labels", "summary_first_dropout"),
            }
        ),
    ),
    "opt": Family(
        architecture="OPTForCausalLM",
        fields={
            "layers": "num_hidden_layers",
            "width": "hidden_size",
            "heads": "num_attention_heads",
            "mlp_width": "ffn_dim",
            "vocab_size": "vocab_size",
            "context": "max_position_embeddings",
            "activation": "activation_function",
            "attention_bias": "enable_bias",
            "mlp_bias": "enable_bias",
            "tied_head": "tie_word_embeddings",
        },
        constants={"positions": "learned", "position_offset": 2, "fused_qkv": False},
        special=frozenset({"word_embed_proj_dim", "_remove_final_layer_norm"}),
        read_special=_read_opt,
        write_special=_write_opt,
        ignored=frozenset(
            {"dropout", "attention_dropout", "activation_dropout", "layerdrop", "init_std"}
        ),
    ),
    "gpt_neox": Family(
        architecture="GPTNeoXForCausalLM",
        fields={
            "layers": "num_hidden_layers",
            "width": "hidden_size",
            "heads": "num_attention_heads",
            "mlp_width": "intermediate_size",
            "vocab_size": "vocab_size",
            "context": "max_position_embeddings",
            "activation": "hidden_act",
            "norm_epsilon": "layer_norm_eps",
            "parallel_residual": "use_parallel_residual",
            "attention_bias": "attention_bias",
            "tied_head": "tie_word_embeddings",
        },
        constants={"positions": "rotary"},
        special=frozenset({"rope_parameters"}),
        read_special=_read_gpt_neox,
        write_special=_write_gpt_neox,
        ignored=frozenset({"attention_dropout", "hidden_dropout", "classifier_dropout"}),
    ),
    "bloom": Family(
        architecture="BloomForCausalLM",
        fields={
            "layers": "n_layer",
            "width": "hidden_size",
            "heads": "n_head",
            "vocab_size": "vocab_size",
            "norm_epsilon": "layer_norm_epsilon",
            "residual_after_norm": "apply_residual_connection_post_layernorm",
            "tied_head": "tie_word_embeddings",
        },
        constants={"positions": "alibi", "activation": "gelu_new", "embedding_norm": True},
        special=frozenset({"n_inner", "seq_length"}),
        read_special=_read_bloom,
        write_special=_write_bloom,
        ignored=frozenset(
            {
                *("hidden_dropout", "attention_dropout", "pretraining_tp", "offset_alibi"),
                *("attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion"),
                *("skip_bias_add", "skip_bias_add_qkv"),
            }
        ),
    ),
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "bert": BERT,
    "xlm-roberta": XLM_ROBERTA,
}
"""The checkpoint's `model_type` -> how its config is read and written."""


def get_family(model_type: object) -> Family:
    """The family of a `model_type`.

    Raises:
        InputError: no such family is supported.
    """
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise refused("model_type", model_type, ", ".join(FAMILIES))
    return family
