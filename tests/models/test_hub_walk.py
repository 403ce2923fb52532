"""Every known model by its hub id, from a fake hub: configuration, weights, tokenizer, nats."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from experiments.common import Setup, manifest
from jaxprotect.evaluation.evaluate import evaluate
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models import hub
from jaxprotect.models.census import KNOWN_MODELS, census_of
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from tests.fake_hub import MAIN, contents, repository

VOCABULARY = 300
TEXTS = Texts(sentences={"eng": ("hello world", "two words")}, ids=(1, 2), source="test")


def tokenizer_files(config: ModelConfig) -> dict[str, bytes]:
    """A byte-level tokenizer with the special tokens of a causal or a masked model."""
    names = ("cls_token", "sep_token", "pad_token", "mask_token", "unk_token")
    special = {n: f"<{n}>" for n in (names if config.masked else ("bos_token", "eos_token"))}
    tokens = Tokenizer(models.BPE(unk_token=special.get("unk_token")))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(["hello world", "two words"], trainer)
    if config.masked:
        first, last = special["cls_token"], special["sep_token"]
        tokens.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            special_tokens=[(token, tokens.token_to_id(token)) for token in (first, last)],
        )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | special
    return {
        "tokenizer.json": tokens.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


def walk(name: str, fake_hub, folder, **changes) -> None:
    """Put a model on the hub, load it by its id, compare every weight, measure it."""
    config = replace(census_of(name).config, layers=1, vocab_size=VOCABULARY, **changes)
    generator = np.random.default_rng(0)

    def leaf(of: jax.ShapeDtypeStruct) -> np.ndarray:
        # Of 8 bits, so that bfloat16 holds them.
        return generator.integers(-127, 128, of.shape).astype(np.float32) / 1024

    params = jax.tree.map(leaf, parameter_shapes(config))
    save_model_folder(folder, params, config, dtype="bfloat16")
    fake_hub.repos[name] = repository(contents(folder) | tokenizer_files(config))
    model = hub.load_model(name)
    assert (model.name, model.revision, model.config) == (name, MAIN, config)
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    nats = evaluate(model, TEXTS).nats["eng"]
    assert nats.shape == (2,)
    assert np.all(np.isfinite(nats) & (nats > 0))


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_every_known_model_is_loaded_by_its_id(name, fake_hub, tmp_path):
    config = census_of(name).config
    rotated = config.rotary_dim * 8 // config.head_size
    width = 8 * config.heads
    narrow = {"width": width, "mlp_width": 4 * width, "rotary_dim": rotated}
    if config.own_head_size:
        narrow["own_head_size"] = 8
    walk(name, fake_hub, tmp_path / "model", **narrow)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_every_known_model_is_loaded_by_its_id_at_its_real_width(name, fake_hub, tmp_path):
    walk(name, fake_hub, tmp_path / "model")


def test_the_commit_is_pinned_in_the_manifest_of_a_run(fake_hub, tmp_path):
    config = replace(census_of("gpt2").config, layers=1, width=96, mlp_width=384, vocab_size=300)
    params = jax.tree.map(lambda of: np.zeros(of.shape, np.float32), parameter_shapes(config))
    save_model_folder(tmp_path / "model", params, config)
    files = contents(tmp_path / "model") | tokenizer_files(config)
    fake_hub.repos["owner/model"] = repository(files)
    setup = Setup(model="owner/model", revision="main")
    pinned = manifest(setup, hub.load_model("owner/model", revision="main"), TEXTS, {})
    assert pinned["model"]["revision"] == MAIN
