"""Every known model by its hub id, from a fake hub: configuration, weights, tokenizer, nats."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import evaluate
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models import hub
from jaxprotect.models.census import KNOWN_MODELS, census_of
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from tests.fake_hub import CONVERSION, MAIN, contents, pull_request, repository
from tests.masked import TOKENIZERS
from tests.models.test_census import PUBLISHED_CONFIGS

VOCABULARY = 300
CONVERTED = {"facebook/opt-125m"}
"""Pickles on the hub, beside which its bot has put safetensors."""

PICKLED = {"ai-forever/mGPT"}
"""Pickles alone."""

TEXTS = Texts(sentences={"eng": ("hello world", "two words")}, ids=(1, 2), source="test")


def tokenizer_files(config: ModelConfig, folder) -> dict[str, bytes]:
    """The files of a small tokenizer of the family's kind."""
    if config.masked:
        TOKENIZERS[config.family]().save_pretrained(folder)
        return contents(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(["hello world", "two words"], trainer)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | special
    return {
        "tokenizer.json": tokens.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


def published_file(name: str) -> bytes:
    """A known model's configuration as its `config.json` on the hub has it, but of one block."""
    depths = ("num_hidden_layers", "n_layer")
    fields = PUBLISHED_CONFIGS[name]
    return json.dumps(fields | {depth: 1 for depth in depths if depth in fields}).encode()


def published(name: str, whole: dict) -> dict:
    """A repository with the kind of weights that it has on the hub."""
    pickles = {of: file for of, file in whole.items() if of != "model.safetensors"}
    pickles["pytorch_model.bin"] = b"pickle"
    if name in PICKLED:
        return repository(pickles)
    if name not in CONVERTED:
        return repository(whole)
    return {
        "commits": {MAIN: pickles, CONVERSION: whole},
        "refs": {"main": MAIN, "refs/pr/1": CONVERSION},
        "history": {MAIN: [MAIN], CONVERSION: [CONVERSION, MAIN]},
        "discussions": [pull_request()],
    }


def walk(name: str, config: ModelConfig, fake_hub, folder, **files: bytes) -> None:
    """Put a model on the hub, load it by its id, compare every weight, measure it."""
    generator = np.random.default_rng(0)

    def leaf(of: jax.ShapeDtypeStruct) -> np.ndarray:
        # Of 8 bits, so that bfloat16 holds them.
        return generator.integers(-127, 128, of.shape, np.int8).astype(np.float32) / 1024

    params = jax.tree.map(leaf, parameter_shapes(config))
    save_model_folder(folder, params, config, dtype="bfloat16")
    saved = {file.name: file for file in folder.iterdir()}
    tokenizer = tokenizer_files(config, folder.with_name("tokenizer"))
    whole = saved | tokenizer | files
    fake_hub.repos[name] = published(name, whole)
    if name in PICKLED:
        with pytest.raises(
            InputError, match=r"no weights that can be read: found `pytorch_model\."
        ):
            hub.load_model(name)
        fake_hub.repos[name] = repository(whole)  # as its owner, or who converts it, may publish it
    model = hub.load_model(name)
    commit = CONVERSION if name in CONVERTED else MAIN
    assert (model.name, model.revision, model.config) == (name, commit, config)
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
    config = replace(config, layers=1, vocab_size=VOCABULARY, **narrow)
    walk(name, config, fake_hub, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_every_known_model_is_loaded_by_its_id_as_it_is_but_for_its_depth(name, fake_hub, tmp_path):
    config = replace(census_of(name).config, layers=1)
    walk(name, config, fake_hub, tmp_path / "model", **{"config.json": published_file(name)})
    shutil.rmtree(tmp_path)
