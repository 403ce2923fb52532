"""BERT and XLM-RoBERTa against torch: logits of every position, and pseudo-log-likelihoods."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, XLMRobertaConfig

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import evaluate
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub import load_model
from jaxprotect.models.transformer import PADDING, forward
from tests.masked import TOKENIZERS

TINY: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "intermediate_size": 52,
    "max_position_embeddings": 16,
    "vocab_size": 61,
}
CLASSES: dict[str, Any] = {"bert": BertConfig, "xlm-roberta": XLMRobertaConfig}
EVERY = pytest.mark.parametrize("family", CLASSES)
HEADS = {"bert": "cls.predictions", "xlm-roberta": "lm_head"}


def tiny(family: str, **changes: object) -> Any:
    return CLASSES[family].from_dict(TINY | changes)


TOKENS = np.random.default_rng(1).integers(4, 61, (8, 11))
"""No padding among them: torch would give such a token XLM-R's position of padding."""


@EVERY
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new", "layer_norm_eps": 0.3},
        {"hidden_act": "relu", "type_vocab_size": 3},
    ],
    ids=str,
)
def test_settings(check_parity, family, changes):
    check_parity(tiny(family, **changes), tokens=TOKENS)


@pytest.mark.parametrize("padding", [0, 3])
def test_positions_start_after_that_of_the_padding_token(check_parity, padding):
    check_parity(tiny("xlm-roberta", pad_token_id=padding), tokens=TOKENS)


@EVERY
def test_padding_of_several_lengths(random_model, tmp_path, family):
    model = random_model(tiny(family))
    model.save_pretrained(tmp_path)
    config = load_config(tmp_path)
    params, _ = load_params(tmp_path, config)
    real = np.arange(11) < (np.arange(8) % 7 + 4)[:, None]
    padding = model.config.pad_token_id
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(np.where(real, TOKENS, padding)),
            attention_mask=torch.from_numpy(real).long(),
        ).logits.numpy()
    ours = np.asarray(
        jax.jit(forward, static_argnums=2)(params, np.where(real, TOKENS, PADDING), config)
    )
    assert np.abs(ours[real] - theirs[real]).max() < 2e-5
    assert np.isfinite(ours).all()


@EVERY
def test_half_precision_and_sharded_files(check_parity, family, tmp_path):
    dtype = torch.float16 if family == "bert" else torch.bfloat16
    check_parity(tiny(family), dtype=dtype, shard_size="8KB", tokens=TOKENS)
    assert (tmp_path / "model.safetensors.index.json").exists()


def edited(folder: Path, family: str, **extra: np.ndarray) -> None:
    """The file as the hub's checkpoints have it: older names, buffers, and what is not read."""
    tensors = load_file(folder / "model.safetensors")
    head = HEADS[family]
    if family == "bert":
        for ending, before in {"LayerNorm.weight": "gamma", "LayerNorm.bias": "beta"}.items():
            tensors = {
                name.replace(ending, f"LayerNorm.{before}"): tensor
                for name, tensor in tensors.items()
            }
        tensors["cls.seq_relationship.weight"] = np.ones((2, 24), np.float32)
        tensors["cls.seq_relationship.bias"] = np.ones(2, np.float32)
    name = "bert" if family == "bert" else "roberta"
    tensors[f"{name}.embeddings.position_ids"] = np.arange(16)[None]
    tensors[f"{name}.pooler.dense.weight"] = np.ones((24, 24), np.float32)
    tensors[f"{name}.pooler.dense.bias"] = np.ones(24, np.float32)
    tensors[f"{head}.decoder.weight"] = tensors[f"{name}.embeddings.word_embeddings.weight"]
    tensors[f"{head}.decoder.bias"] = tensors[f"{head}.bias"]
    save_file(tensors | extra, folder / "model.safetensors")


@EVERY
def test_the_names_of_published_files(check_parity, family):
    check_parity(tiny(family), edit=lambda folder: edited(folder, family), tokens=TOKENS)


@EVERY
def test_one_bias_under_its_other_name_or_twice(random_model, tmp_path, family):
    random_model(tiny(family)).save_pretrained(tmp_path)
    config, path = load_config(tmp_path), tmp_path / "model.safetensors"
    head, tensors = HEADS[family], load_file(path)
    expected, _ = load_params(tmp_path, config)
    other = {n.replace(f"{head}.bias", f"{head}.decoder.bias"): t for n, t in tensors.items()}
    save_file(other, path)
    found, _ = load_params(tmp_path, config)
    np.testing.assert_array_equal(found["head"]["bias"], expected["head"]["bias"])
    save_file(tensors, path)
    edited(tmp_path, family, **{f"{head}.decoder.bias": np.zeros(61, np.float32)})
    with pytest.raises(InputError, match=rf"`{head}.decoder.bias` differs from `{head}.bias`"):
        load_params(tmp_path, config)


@EVERY
def test_the_settings_tested_are_the_ones_meant(tmp_path, family):
    """Else parity might hold because both sides ignore a field."""
    tiny(family, hidden_act="relu").save_pretrained(tmp_path)
    config = load_config(tmp_path)
    of_bert = family == "bert"
    assert (config.masked, config.norm_after, config.token_types) == (True, True, 2)
    assert (config.context, config.position_offset) == ((16, 0) if of_bert else (14, 2))
    assert (config.activation, config.head_activation) == ("relu", "relu" if of_bert else "gelu")


def torch_pseudo_nats(model: Any, ids: list[int], mask: int, words: list | None) -> float:
    """-sum_t ln p(w_t | the rest), one copy after the other, as Salazar et al. define it.

    With words also the tokens after w_t in its word are masked, as in Kauf and Ivanova.
    """
    total = 0.0
    for at in range(1, len(ids) - 1):
        row = torch.tensor([ids])
        row[0, at] = mask
        for later in range(at + 1, len(ids) - 1):
            if words is not None and words[later] == words[at]:
                row[0, later] = mask
        with torch.no_grad():
            logits = model(row).logits[0, at].double()
        total -= float(torch.log_softmax(logits, 0)[ids[at]])
    return total


@EVERY
@pytest.mark.parametrize("masking", ["token", "word"])
def test_pseudo_log_likelihoods(random_model, tmp_path, family, masking):
    """To the same bar as the causal losses: 1e-6 nats in the mean over tokens."""
    tokenizer = TOKENIZERS[family]()
    hf_config = tiny(family, vocab_size=len(tokenizer), max_position_embeddings=40)
    model = random_model(hf_config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    sentences = ("das ist schön, the", "is", "barking über the")
    texts = Texts(sentences={"deu": sentences}, ids=(1, 2, 3), source="s")
    found = evaluate(loaded, texts, masking=masking)
    for index, sentence in enumerate(sentences):
        encoding = tokenizer(sentence)
        words = encoding.word_ids() if masking == "word" else None
        ids = encoding["input_ids"]
        theirs = torch_pseudo_nats(model, ids, tokenizer.mask_token_id, words)
        assert abs(found.nats["deu"][index] - theirs) / (len(ids) - 2) < 1e-6
        assert found.tokens["deu"][index] == len(ids) - 2


@EVERY
def test_torch_gets_our_nats_from_the_folder_we_write(random_model, tmp_path, family):
    tokenizer = TOKENIZERS[family]()
    random_model(tiny(family, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "theirs")
    config = load_config(tmp_path / "theirs")
    params, _ = load_params(tmp_path / "theirs", config)
    params = jax.tree.map(lambda leaf: leaf * 0.9, params)
    save_model_folder(tmp_path / "ours", params, config, tokenizer=tokenizer)
    again: Any = AutoModelForMaskedLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", output_loading_info=True
    )
    model, report = again
    assert not any(report.values())
    assert model.config.pad_token_id == tokenizer.pad_token_id
    texts = Texts(sentences={"deu": ("the über",)}, ids=(1,), source="s")
    ids = AutoTokenizer.from_pretrained(tmp_path / "ours")("the über")["input_ids"]
    theirs = torch_pseudo_nats(model, ids, tokenizer.mask_token_id, None)
    ours = evaluate(load_model(tmp_path / "ours"), texts).nats["deu"][0]
    assert abs(ours - theirs) / (len(ids) - 2) < 1e-6
