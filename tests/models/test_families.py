"""Configs: what is read, what is ignored, and that everything else is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import (
    AutoConfig,
    BertConfig,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    XLMRobertaConfig,
)

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig, RotaryScaling
from jaxprotect.models.config_files import load_config, read_config, write_config
from jaxprotect.models.families import FAMILIES
from jaxprotect.models.family import COMMON_IGNORED

CLASSES = {"gpt2": GPT2Config, "opt": OPTConfig, "gpt_neox": GPTNeoXConfig, "bloom": BloomConfig}
CLASSES |= {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
CLASSES |= {"bert": BertConfig, "xlm-roberta": XLMRobertaConfig}
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}

PUBLISHED: dict[str, tuple[dict, ModelConfig]] = {
    "gpt2": (
        {"model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}
        | {"n_positions": 1024, "vocab_size": 50257, "activation_function": "gelu_new"}
        | {"resid_pdrop": 0.1, "summary_type": "cls_index", "layer_norm_epsilon": 1e-5}
        | {"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
        ModelConfig(
            family="gpt2",
            layers=12,
            width=768,
            heads=12,
            mlp_width=3072,
            vocab_size=50257,
            context=1024,
        ),
    ),
    "mGPT": (
        {"model_type": "gpt2", "n_ctx": 2048, "n_embd": 2048, "n_head": 16, "n_layer": 24}
        | {"n_positions": 2048, "vocab_size": 100000, "activation_function": "gelu"}
        | {"n_inner": None, "output_past": True, "gradient_checkpointing": False},
        ModelConfig(
            family="gpt2",
            layers=24,
            width=2048,
            heads=16,
            mlp_width=8192,
            vocab_size=100000,
            context=2048,
            activation="gelu",
        ),
    ),
    "opt-125m": (
        {"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072}
        | {"num_attention_heads": 12, "max_position_embeddings": 2048, "vocab_size": 50272}
        | {"activation_dropout": 0.0, "activation_function": "relu", "word_embed_proj_dim": 768}
        | {"prefix": "</s>", "torch_dtype": "float16", "do_layer_norm_before": True},
        ModelConfig(
            family="opt",
            layers=12,
            width=768,
            heads=12,
            mlp_width=3072,
            vocab_size=50272,
            context=2048,
            activation="relu",
            position_offset=2,
            fused_qkv=False,
        ),
    ),
    "pythia-160m": (
        {"model_type": "gpt_neox", "hidden_size": 768, "num_hidden_layers": 12}
        | {"num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 2048}
        | {"vocab_size": 50304, "hidden_act": "gelu", "rotary_pct": 0.25, "rotary_emb_base": 10000}
        | {"rope_scaling": None, "tie_word_embeddings": False, "use_parallel_residual": True},
        ModelConfig(
            family="gpt_neox",
            layers=12,
            width=768,
            heads=12,
            mlp_width=3072,
            vocab_size=50304,
            context=2048,
            activation="gelu",
            positions="rotary",
            rotary_dim=16,
            parallel_residual=True,
            tied_head=False,
        ),
    ),
    "bloom-560m": (
        {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16}
        | {"vocab_size": 250880, "seq_length": 2048, "n_inner": None, "offset_alibi": 100}
        | {"attention_softmax_in_fp32": True, "masked_softmax_fusion": True, "pretraining_tp": 1}
        | {"bias_dropout_fusion": True, "skip_bias_add": True, "skip_bias_add_qkv": False}
        | {"unk_token_id": 0, "pad_token_id": 3},
        ModelConfig(
            family="bloom",
            layers=24,
            width=1024,
            heads=16,
            mlp_width=4096,
            vocab_size=250880,
            context=2048,
            positions="alibi",
            embedding_norm=True,
        ),
    ),
    "SmolLM2-135M": (
        {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "head_dim": 64}
        | {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
        | {"vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5}
        | {"rope_theta": 100000, "rope_scaling": None, "rope_interleaved": False}
        | {"is_llama_config": True, "pretraining_tp": 1, "attention_bias": False}
        | {"mlp_bias": False, "hidden_act": "silu", "tie_word_embeddings": True}
        | {"torch_dtype": "bfloat16", "transformers.js_config": {"dtype": "q4"}},
        ModelConfig(
            family="llama",
            layers=30,
            width=576,
            heads=9,
            queries_per_key=3,
            mlp_width=1536,
            vocab_size=49152,
            context=8192,
            activation="silu",
            gated_mlp=True,
            norm="rms",
            positions="rotary",
            rotary_dim=64,
            rotary_theta=100_000.0,
            fused_qkv=False,
            attention_bias=False,
            mlp_bias=False,
        ),
    ),
    "Llama-3.2-1B": (
        {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "head_dim": 64}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192}
        | {"vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5}
        | {"rope_theta": 500000.0, "attention_bias": False, "mlp_bias": False}
        | {"rope_scaling": LLAMA3, "hidden_act": "silu", "tie_word_embeddings": True},
        ModelConfig(
            family="llama",
            layers=16,
            width=2048,
            heads=32,
            queries_per_key=4,
            mlp_width=8192,
            vocab_size=128256,
            context=131072,
            activation="silu",
            gated_mlp=True,
            norm="rms",
            positions="rotary",
            rotary_dim=64,
            rotary_theta=500_000.0,
            rotary_scaling=RotaryScaling(
                kind="llama3", factor=32.0, low=1.0, high=4.0, original_context=8192
            ),
            fused_qkv=False,
            attention_bias=False,
            mlp_bias=False,
        ),
    ),
    "Mistral-7B": (
        {"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336}
        | {"vocab_size": 32000, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5}
        | {"rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False},
        ModelConfig(
            family="mistral",
            layers=32,
            width=4096,
            heads=32,
            queries_per_key=4,
            mlp_width=14336,
            vocab_size=32000,
            context=32768,
            activation="silu",
            gated_mlp=True,
            norm="rms",
            positions="rotary",
            rotary_dim=128,
            window=4096,
            fused_qkv=False,
            attention_bias=False,
            mlp_bias=False,
            tied_head=False,
        ),
    ),
    "Qwen2.5-0.5B": (
        {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864}
        | {"vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6}
        | {"rope_theta": 1000000.0, "use_mrope": False, "use_sliding_window": False}
        | {"sliding_window": 32768, "max_window_layers": 24, "tie_word_embeddings": True},
        ModelConfig(
            family="qwen2",
            layers=24,
            width=896,
            heads=14,
            queries_per_key=7,
            mlp_width=4864,
            vocab_size=151936,
            context=32768,
            activation="silu",
            gated_mlp=True,
            norm="rms",
            norm_epsilon=1e-6,
            positions="rotary",
            rotary_dim=64,
            rotary_theta=1_000_000.0,
            fused_qkv=False,
            out_bias=False,
            mlp_bias=False,
        ),
    ),
    "mBERT": (
        {
            "model_type": "bert",
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "directionality": "bidi",
        }
        | {"num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 119547}
        | {"max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
        | {"pad_token_id": 0, "pooler_fc_size": 768, "pooler_num_attention_heads": 12}
        | {"pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "hidden_act": "gelu"}
        | {"pooler_type": "first_token_transform", "attention_probs_dropout_prob": 0.1},
        ModelConfig(
            family="bert",
            masked=True,
            layers=12,
            width=768,
            heads=12,
            mlp_width=3072,
            vocab_size=119547,
            context=512,
            activation="gelu",
            norm_epsilon=1e-12,
            token_types=2,
            norm_after=True,
            fused_qkv=False,
            embedding_norm=True,
        ),
    ),
    "XLM-R": (
        {"model_type": "xlm-roberta", "hidden_size": 768, "num_hidden_layers": 12}
        | {"num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 250002}
        | {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-05}
        | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "output_past": True}
        | {"position_embedding_type": "absolute", "hidden_act": "gelu"},
        ModelConfig(
            family="xlm-roberta",
            masked=True,
            layers=12,
            width=768,
            heads=12,
            mlp_width=3072,
            vocab_size=250002,
            context=512,
            activation="gelu",
            position_offset=2,
            token_types=1,
            norm_after=True,
            fused_qkv=False,
            embedding_norm=True,
        ),
    ),
}
BASE = {name: config for name, (_, config) in PUBLISHED.items()}


def write(folder: Path, raw: object) -> Path:
    (folder / "config.json").write_text(json.dumps(raw), "utf-8")
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_in_their_old_spelling(tmp_path, name):
    raw, expected = PUBLISHED[name]
    assert load_config(write(tmp_path, raw)) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_bookkeeping_of_published_configs_is_passed_over(tmp_path, name):
    kept = {"_attn_implementation_autoset": True, "_num_labels": 1, "n_special": 0}
    kept |= {"predict_special_tokens": True, "tie_encoder_decoder": False, "torchscript": False}
    kept |= {"use_bfloat16": False, "unsloth_fixed": True, "unsloth_version": "2024.9"}
    kept |= {"pruned_heads": {}, "unknown": None, "unknown_list": [], "unknown_name": ""}
    raw, expected = PUBLISHED[name]
    assert load_config(write(tmp_path, raw | kept)) == expected


@pytest.mark.parametrize(
    ("raw", "changes"),
    [
        ({"rotary_pct": 1.0, "rotary_emb_base": 500}, {"rotary_dim": 64, "rotary_theta": 500.0}),
        (
            {"rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.5}},
            {"rotary_dim": 32, "rotary_theta": 7.0},
        ),
        ({"rope_scaling": {"type": "default"}}, {}),
        ({"use_parallel_residual": False}, {"parallel_residual": False}),
        ({"attention_bias": False}, {"attention_bias": False}),
    ],
)
def test_neox_settings(tmp_path, raw, changes):
    published = {k: v for k, v in PUBLISHED["pythia-160m"][0].items() if not k.startswith("ro")}
    assert load_config(write(tmp_path, published | raw)) == replace(BASE["pythia-160m"], **changes)


@pytest.mark.parametrize(
    "config",
    [
        *BASE.values(),
        replace(BASE["gpt2"], mlp_width=5, scale_attention=False, tied_head=False),
        replace(BASE["gpt2"], scale_by_layer=True, activation="silu", norm_epsilon=0.5),
        replace(BASE["opt-125m"], attention_bias=False, mlp_bias=False, final_norm=False),
        replace(BASE["opt-125m"], tied_head=False),
        replace(BASE["pythia-160m"], rotary_dim=64, parallel_residual=False, tied_head=True),
        replace(BASE["pythia-160m"], attention_bias=False, rotary_theta=3.0),
        replace(BASE["bloom-560m"], residual_after_norm=True, tied_head=False, context=77),
        replace(BASE["SmolLM2-135M"], own_head_size=30, rotary_dim=30, attention_bias=True),
        replace(BASE["SmolLM2-135M"], rotary_scaling=RotaryScaling(kind="linear", factor=2.5)),
        replace(BASE["Mistral-7B"], window=0, queries_per_key=1, width=4000, own_head_size=128),
        replace(BASE["Qwen2.5-0.5B"], window=7, window_from_layer=5),
        replace(BASE["Qwen2.5-0.5B"], window=7),
        replace(BASE["mBERT"], activation="relu", head_activation="relu", token_types=1),
        replace(BASE["XLM-R"], activation="relu", position_offset=5, context=33),
    ],
)
def test_what_is_written_reads_back(tmp_path, config):
    written = write_config(config)
    assert load_config(write(tmp_path, written)) == config
    assert written["architectures"] == [FAMILIES[config.family].architecture]


def test_every_rotary_share_survives_its_fraction():
    base = replace(BASE["pythia-160m"], heads=1)
    # At all sizes but the first, some width * (rotary_dim / width) falls below rotary_dim.
    for width in (64, 98, 101, 200):
        for rotary_dim in range(2, width + 1, 2):
            config = replace(base, width=width, rotary_dim=rotary_dim)
            assert int(width * write_config(config)["rotary_pct"]) == rotary_dim


@pytest.mark.parametrize("model_type", FAMILIES)
def test_fields_are_known_or_must_keep_their_default(model_type):
    family, default = FAMILIES[model_type], CLASSES[model_type]()
    read_config(default)
    known = {*family.fields.values(), *family.special, *family.ignored, *COMMON_IGNORED}
    others = {n for n in default.to_dict() if n not in known and not n.endswith("_token_id")}
    assert "is_encoder_decoder" in others
    for name in others:
        with pytest.raises(InputError, match=f"`{name}` is"):
            read_config(CLASSES[model_type](**{name: _another(default.to_dict()[name])}))


def _another(value: object) -> object:
    return not value if isinstance(value, bool) else 3


YARN = "rope_type` is 'yarn'; allowed: 'default', 'linear', 'llama3'"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "gpt2",
            {"model_type": "mamba"},
            "`model_type` is 'mamba'; allowed: gpt2, .* llama, mistr",
        ),
        ("gpt2", {"model_type": None}, "`model_type` is None; allowed: gpt2"),
        ("gpt2", {"model_type": "electra"}, "`model_type` is 'electra'; allowed: .* xlm-roberta"),
        ("mBERT", {"is_decoder": True}, "`is_decoder` is True; allowed: false"),
        ("XLM-R", {"tie_word_embeddings": False}, "`tie_word_embeddings` is False; allowed: true"),
        ("mBERT", {"position_embedding_type": "relative_key"}, "is 'relative_key'; allowed: 'abs"),
        ("mBERT", {"type_vocab_size": 0}, "`type_vocab_size` is 0; allowed: whole numbers above 0"),
        ("XLM-R", {"pad_token_id": None}, "`pad_token_id` is None; allowed: 0 to 512, as the pos"),
        ("XLM-R", {"pad_token_id": 513}, "`pad_token_id` is 513; allowed: 0 to 512"),
        ("XLM-R", {"max_position_embeddings": 1}, "is 1; allowed: whole numbers above 1"),
        ("gpt2", {"model_type": []}, r"`model_type` is \[\]; allowed: gpt2"),
        ("gpt2", {"add_cross_attention": True}, "`add_cross_attention` is True; allowed: False"),
        ("gpt2", {"activation_function": "xielu"}, "`activation_function` is 'xielu'; .*gelu_new"),
        ("gpt2", {"n_head": 7}, "`n_embd` is 768; allowed: multiples of the 7 heads"),
        ("gpt2", {"n_head": 0}, "`n_head` is 0; allowed: whole numbers above 0"),
        ("gpt2", {"n_layer": -1}, "`n_layer` is -1"),
        ("gpt2", {"n_inner": 0}, "`mlp_width` is 0; allowed: whole numbers above 0"),
        ("gpt2", {"quantization_config": {"bits": 4}}, "`quantization_config` is .*not known"),
        ("gpt2", {"auto_map": {"AutoModel": "m.M"}}, "`auto_map`"),
        ("gpt2", {"pruned_heads": {"0": [1]}}, "`pruned_heads`"),
        ("gpt2", {"tie_encoder_decoder": True}, "`tie_encoder_decoder` is True; allowed: False"),
        ("gpt2", {"is_causal": False}, "`is_causal` is False; allowed: leaving it out, as its"),
        ("gpt2", {"unknown": 0}, "`unknown` is 0; allowed: leaving it out"),
        ("gpt2", {"vocab_size": "many"}, "refused by transformers: .*vocab_size"),
        ("opt-125m", {"do_layer_norm_before": False}, "`do_layer_norm_before` is False"),
        ("opt-125m", {"word_embed_proj_dim": 512}, "`word_embed_proj_dim` is 512; .*768"),
        ("opt-125m", {"layer_norm_elementwise_affine": False}, "`layer_norm_elementwise_affine`"),
        ("pythia-160m", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type` is 'lin"),
        (
            "pythia-160m",
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "is 'dynamic'; allowed",
        ),
        ("pythia-160m", {"rope_parameters": {"factor": 2.0}}, "`rope_parameters.factor` is 2.0"),
        ("pythia-160m", {"rotary_pct": 0.05}, "partial_rotary_factor` is 0.05; .* 64 head"),
        ("pythia-160m", {"rotary_pct": 0.0}, "partial_rotary_factor` is 0.0"),
        ("pythia-160m", {"rotary_pct": 1.5}, "partial_rotary_factor` is 1.5"),
        ("pythia-160m", {"rotary_emb_base": -1}, "rope_theta` is -1; allowed: numbers above 0"),
        ("pythia-160m", {"rotary_emb_base": None}, "rope_theta` is None; allowed: numbers"),
        ("pythia-160m", {"rotary_pct": None}, "partial_rotary_factor` is None"),
        ("pythia-160m", {"head_dim": 32}, "`head_dim` is 32"),
        ("pythia-160m", {"rope_theta": 5.0}, "`rope_theta` is 5.0"),
        ("bloom-560m", {"slow_but_exact": True}, "`slow_but_exact` is True; allowed: False"),
        ("bloom-560m", {"n_inner": 100}, r"`n_inner` is 100; allowed: null or .*\(4096\)"),
        ("bloom-560m", {"seq_length": "long"}, "`context` is 'long'; allowed: whole numbers"),
        ("bloom-560m", {"hidden_act": "relu"}, "`hidden_act` is 'relu'"),
        ("SmolLM2-135M", {"num_key_value_heads": 2}, "`num_key_value_heads` is 2; .*the 9 heads"),
        ("SmolLM2-135M", {"num_key_value_heads": 0}, "`num_key_value_heads` is 0; allowed: div"),
        ("SmolLM2-135M", {"num_key_value_heads": 18}, "`num_key_value_heads` is 18"),
        ("SmolLM2-135M", {"head_dim": 3}, "`head_dim` is 3; allowed: even whole numbers above 0"),
        ("SmolLM2-135M", {"head_dim": 0}, "`head_dim` is 0"),
        ("Qwen2.5-0.5B", {"hidden_size": 42}, "`hidden_size` is 42; .* each of 14 heads"),
        ("Qwen2.5-0.5B", {"hidden_size": 900}, "`hidden_size` is 900; .*multiples of the 14"),
        ("SmolLM2-135M", {"rope_interleaved": True}, "`rope_interleaved` is True; allowed: false"),
        ("SmolLM2-135M", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, YARN),
        ("SmolLM2-135M", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "is 'dynamic'; "),
        (
            "SmolLM2-135M",
            {"rope_scaling": {"type": "linear", "factor": 0}},
            "factor` is 0; .*above",
        ),
        ("SmolLM2-135M", {"rope_scaling": {"type": "linear", "factor": "2"}}, "factor` is '2'"),
        (
            "Llama-3.2-1B",
            {"rope_scaling": LLAMA3 | {"high_freq_factor": 1}},
            r"numbers above .*\(1",
        ),
        (
            "Llama-3.2-1B",
            {"rope_scaling": LLAMA3 | {"low_freq_factor": 0}},
            "low_freq_factor` is 0",
        ),
        ("Llama-3.2-1B", {"rope_scaling": LLAMA3 | {"beta": 1}}, "rope_parameters.beta` is 1"),
        ("SmolLM2-135M", {"partial_rotary_factor": 0.5}, "partial_rotary_factor` is 0.5; .*out"),
        ("SmolLM2-135M", {"rope_theta": 0}, "rope_theta` is 0; allowed: numbers above 0"),
        ("Mistral-7B", {"sliding_window": 0}, "`sliding_window` is 0; allowed: whole numbers"),
        ("Mistral-7B", {"attention_bias": True}, "`attention_bias` is True"),
        ("Qwen2.5-0.5B", {"use_mrope": True}, "`use_mrope` is True; allowed: false"),
        (
            "Qwen2.5-0.5B",
            {"layer_types": ["sliding_attention"] + ["full_attention"] * 23},
            "`layer_types` is .*allowed: 'full_attention' for the first",
        ),
        (
            "Qwen2.5-0.5B",
            {"layer_types": ["full_attention"] * 23 + ["sliding_attention"]},
            "`sliding_window` is None; allowed: whole numbers above 0",
        ),
        (
            "Qwen2.5-0.5B",
            {"num_hidden_layers": 2**30},
            "`num_hidden_layers` is 1073741824; .*10000",
        ),
    ],
)
def test_refusals_name_the_field_the_value_and_what_is_allowed(tmp_path, name, changes, message):
    raw = PUBLISHED[name][0] | changes
    with pytest.raises(InputError, match=message) as caught:
        load_config(write(tmp_path, raw))
    assert "\n" not in str(caught.value)


def test_layers_that_differ_are_refused(tmp_path):
    raw = PUBLISHED["gpt2"][0] | {"per_layer_config": {"0": {"n_head": 4}}}
    with pytest.raises(InputError):
        load_config(write(tmp_path, raw))


def test_unreadable_folders(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        load_config(tmp_path)
    with pytest.raises(InputError, match="holds a list"):
        load_config(write(tmp_path, []))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(BASE["gpt2"], positions="rotary"), "`positions` is 'rotary'"),
        (replace(BASE["gpt2"], family="mamba"), "`model_type` is 'mamba'"),
        (replace(BASE["gpt2"], queries_per_key=2), "`queries_per_key` is 2; allowed: 1, all that"),
        (replace(BASE["SmolLM2-135M"], norm="layer"), "`norm` is 'layer'; allowed: 'rms'"),
        (replace(BASE["SmolLM2-135M"], window=4), "`window` is 4; allowed: 0"),
        (replace(BASE["SmolLM2-135M"], rotary_dim=32), "`rotary_dim` is 32; allowed: 64"),
        (replace(BASE["bloom-560m"], mlp_width=7), "`mlp_width` is 7; allowed: 4096"),
        (replace(BASE["opt-125m"], norm_epsilon=0.1), "`norm_epsilon` is 0.1; allowed: 1e-05"),
        (replace(BASE["opt-125m"], mlp_bias=False), "_bias` is"),
        (replace(BASE["pythia-160m"], mlp_bias=False), "`mlp_bias` is False"),
        (replace(BASE["pythia-160m"], rotary_dim=3), "partial_rotary_factor"),
    ],
)
def test_what_the_format_cannot_say_is_not_written(config, message):
    with pytest.raises(InputError, match=message):
        write_config(config)


def test_reading_does_not_change_the_config_object():
    hf_config = GPTNeoXConfig.from_dict({"rotary_pct": 0.5})
    before = hf_config.to_dict()
    read_config(hf_config)
    assert hf_config.to_dict() == before


def test_auto_config_of_what_is_written_names_the_family(tmp_path):
    hf_config = AutoConfig.from_pretrained(write(tmp_path, write_config(BASE["mGPT"])))
    assert (hf_config.model_type, hf_config.n_inner) == ("gpt2", 8192)
