"""Counts against published figures, against the real parameter trees, and against each other."""

import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers import AutoConfig, AutoModelForMaskedLM

from jaxprotect.errors import InputError
from jaxprotect.models.axes import COMPONENTS
from jaxprotect.models.census import KNOWN_MODELS, Count, brief_comparison, census, census_of
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import read_config
from jaxprotect.models.model import Model
from jaxprotect.selection import masks
from tests.models.test_families import PUBLISHED
from tests.models.tiny_models import EVERY
from tests.tiny import random_params

# The shape-giving fields of each `config.json` on the hub, in the spelling used there.
PUBLISHED_CONFIGS = {
    "gpt2": {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "facebook/opt-125m": {
        "model_type": "opt",
        "_remove_final_layer_norm": False,
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "ffn_dim": 3072,
        "hidden_size": 768,
        "max_position_embeddings": 2048,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 50272,
        "word_embed_proj_dim": 768,
    },
    "EleutherAI/pythia-160m": {
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "use_parallel_residual": True,
        "vocab_size": 50304,
    },
    "bigscience/bloom-560m": {
        "model_type": "bloom",
        "apply_residual_connection_post_layernorm": False,
        "layer_norm_epsilon": 1e-05,
        "n_embed": 1024,
        "n_inner": None,
        "n_layer": 24,
        "num_attention_heads": 16,
        "seq_length": 2048,
        "vocab_size": 250880,
    },
    "ai-forever/mGPT": {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "n_ctx": 2048,
        "n_embd": 2048,
        "n_head": 16,
        "n_inner": None,
        "n_layer": 24,
        "n_positions": 2048,
        "scale_attn_weights": True,
        "vocab_size": 100000,
    },
}
PUBLISHED_CONFIGS |= {
    "HuggingFaceTB/SmolLM2-135M": PUBLISHED["SmolLM2-135M"][0],
    "meta-llama/Llama-3.2-1B": PUBLISHED["Llama-3.2-1B"][0],
    "mistralai/Mistral-7B-v0.1": PUBLISHED["Mistral-7B"][0],
    "Qwen/Qwen2.5-0.5B": PUBLISHED["Qwen2.5-0.5B"][0],
    "google-bert/bert-base-multilingual-cased": PUBLISHED["mBERT"][0],
    "FacebookAI/xlm-roberta-base": PUBLISHED["XLM-R"][0],
}
PUBLISHED_TOTALS = {
    "gpt2": 124_439_808,
    "facebook/opt-125m": 125_239_296,
    "EleutherAI/pythia-160m": 162_322_944,
    "bigscience/bloom-560m": 559_214_592,
    "ai-forever/mGPT": 1_417_596_928,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "google-bert/bert-base-multilingual-cased": 177_974_523,
    "FacebookAI/xlm-roberta-base": 278_295_186,
}

configs = st.builds(
    lambda head_size, key_heads, queries_per_key, fused_qkv, **rest: ModelConfig(
        family="gpt2",
        width=head_size * key_heads * queries_per_key,
        heads=key_heads * queries_per_key,
        queries_per_key=queries_per_key,
        fused_qkv=fused_qkv and queries_per_key == 1,
        **rest,
    ),
    head_size=st.integers(1, 8),
    key_heads=st.integers(1, 5),
    queries_per_key=st.integers(1, 3),
    own_head_size=st.sampled_from([0, 0, 3]),
    gated_mlp=st.booleans(),
    norm=st.sampled_from(["layer", "rms"]),
    out_bias=st.booleans(),
    layers=st.integers(1, 4),
    mlp_width=st.integers(1, 40),
    vocab_size=st.integers(1, 99),
    context=st.integers(1, 9),
    positions=st.sampled_from(["learned", "rotary", "alibi"]),
    position_offset=st.integers(0, 2),
    fused_qkv=st.booleans(),
    attention_bias=st.booleans(),
    mlp_bias=st.booleans(),
    embedding_norm=st.booleans(),
    final_norm=st.booleans(),
    tied_head=st.booleans(),
)


def test_gpt2_has_the_published_counts():
    gpt2 = census_of("gpt2")
    assert gpt2.total == 124_439_808
    assert gpt2.components == {
        "attention": Count(weights=28_311_552, biases=36_864),
        "mlp": Count(weights=56_623_104, biases=46_080),
        "token_embedding": Count(weights=38_597_376),
        "position_embedding": Count(weights=786_432),
        "norms": Count(weights=19_200, biases=19_200),
        "head": Count(),
    }
    assert gpt2.count.biases == 102_144
    assert gpt2.eligible == {
        "matrices": 124_318_464,
        "weights": 124_337_664,
        "everything": 124_439_808,
    }
    assert sum(count.total for count in gpt2.layer.values()) == 7_087_872
    assert gpt2.attention_head == Count(weights=4 * 768 * 64, biases=3 * 64)


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_known_models_have_the_published_totals(name):
    assert census_of(name).total == PUBLISHED_TOTALS[name]


def test_pythia_counts_its_separate_head_and_the_published_rest():
    pythia = census_of("EleutherAI/pythia-160m")
    embeddings = pythia.components["head"].total + pythia.components["token_embedding"].total
    assert pythia.components["head"].total == 50_304 * 768
    assert pythia.total - embeddings == 85_056_000


@pytest.mark.parametrize("name", [name for name in KNOWN_MODELS if census_of(name).config.masked])
def test_torch_counts_as_many_in_masked_models(name):
    fields = dict(PUBLISHED_CONFIGS[name])
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(
            AutoConfig.for_model(fields.pop("model_type"), **fields)
        )
    assert census_of(name).total == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_known_architectures_are_what_the_published_configs_say(name):
    fields = dict(PUBLISHED_CONFIGS[name])
    published = AutoConfig.for_model(fields.pop("model_type"), **fields)
    assert census_of(name).config == read_config(published)


def test_a_model_of_twenty_billion_is_counted_exactly():
    config = ModelConfig(
        family="gpt_neox",
        layers=44,
        width=6144,
        heads=64,
        mlp_width=24_576,
        vocab_size=50_432,
        context=2048,
        positions="rotary",
        rotary_dim=24,
        tied_head=False,
    )
    large = census(config)
    assert large.total == 20_554_567_680
    assert all(type(size) is int for size in large.leaves.values())
    assert large.leaves["blocks/mlp/up/kernel"] == 44 * 6144 * 24_576 > 2**32


@settings(max_examples=40, deadline=None)
@given(configs)
def test_parts_sum_to_the_whole(config):
    counted = census(config)
    everything = sum(counted.leaves.values())
    assert counted.total == counted.eligible["everything"] == everything
    assert sum(count.total for count in counted.components.values()) == everything
    assert counted.count.weights == counted.eligible["weights"]
    in_blocks = sum(n for path, n in counted.leaves.items() if path.startswith("blocks/"))
    block = sum(count.total for count in counted.layer.values())
    assert block * config.layers == in_blocks
    attention, head = counted.layer["attention"], counted.attention_head
    # Heads that share keys and values all count them.
    again = 2 * (config.heads - config.key_heads) * config.head_size
    assert head.weights * config.heads == attention.weights + again * config.width
    no_heads = config.width if config.attention_bias and config.out_bias else 0
    again = again if config.attention_bias else 0
    assert head.biases * config.heads == attention.biases - no_heads + again
    assert counted.components["head"].total == (
        0 if config.tied_head else config.vocab_size * config.width
    )


@pytest.mark.parametrize("name", ["gpt2", "opt bare", "llama", "mistral", "qwen2", "bert"])
def test_a_head_counts_what_its_mask_protects(name):
    params = random_params(EVERY[name])
    protected = masks.count(masks.heads(params, {1: [2]}), params, "everything")
    assert census(EVERY[name]).attention_head.total == protected


def test_rows_are_json_and_agree_with_the_counts():
    gpt2 = census_of("gpt2")
    rows = json.loads(json.dumps(gpt2.rows()))
    whole = [row for row in rows if row["layer"] is None]
    assert [row["part"] for row in whole] == ["model", *COMPONENTS]
    assert whole[0]["total"] == gpt2.total == sum(row["total"] for row in whole[1:])
    assert sum(row["share"] for row in whole[1:]) == pytest.approx(1)
    heads = [row for row in rows if row["part"] == "attention_head"]
    assert len(heads) == 144
    assert sum(row["weights"] for row in heads) == 28_311_552
    for layer in range(12):
        parts = {row["part"]: row["total"] for row in rows if row["layer"] == layer}
        assert parts["block"] == parts["attention"] + parts["mlp"] + parts["norms"]


def test_census_of_a_loaded_model_ignores_its_weights():
    config = census_of("gpt2").config
    model = Model(config=config, params={}, tokenizer=None, name="my-gpt2")
    assert census(model).total == 124_439_808
    assert census(model).name == "my-gpt2"


def test_older_and_newer_names_of_a_seed_model_are_the_same():
    assert census_of("openai-community/gpt2").total == census_of("gpt2").total
    assert census_of("openai-community/gpt2").name == "openai-community/gpt2"
    assert census_of("bert-base-multilingual-cased").total == 177_974_523
    assert census_of("xlm-roberta-base").total == 278_295_186


def test_census_of_a_folder_reads_its_config_before_the_known_names(tmp_path, monkeypatch):
    folder = tmp_path / "gpt2"
    folder.mkdir()
    fields = PUBLISHED_CONFIGS["gpt2"] | {"n_layer": 1}
    (folder / "config.json").write_text(json.dumps(fields))
    monkeypatch.chdir(tmp_path)
    assert census_of("gpt2").total == 124_439_808 - 11 * 7_087_872
    assert census_of(folder).config.layers == 1


def test_census_of_a_missing_folder_is_refused():
    with pytest.raises(InputError, match="does not exist"):
        census_of("./no/such/folder")


def test_the_brief_differs_exactly_where_it_counts_otherwise():
    rows = {row["quantity"]: row for row in brief_comparison()}
    for row in rows.values():
        assert set(row) == {"quantity", "brief", "exact", "difference", "why"}
        assert row["difference"] == int(row["brief"]) - int(row["exact"])
        assert (row["why"] == "the same") == (row["difference"] == 0)
    assert rows["all parameters"]["brief"] == 124_337_664
    assert rows["all parameters"]["difference"] == -102_144
    assert rows["MLP weights"]["brief"] == 57_428_736
    assert rows["MLP weights"]["difference"] == 786_432 + 19_200
    assert {name for name, row in rows.items() if row["difference"]} == {
        "all parameters",
        "MLP weights",
        "one block",
    }
