"""Damaged checkpoints: refused in one line that names the file, or read as what they now say.

The weights of a checkpoint and its config carry no checksums. A file that is accepted must be
read as an independent, plain reader reads it: every tensor by the offsets of its header, every
field of the config as JSON has it.
"""

import hashlib
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.families import FAMILIES
from jaxprotect.models.tokenizer_files import read_tokenizer
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import EVERY, GPT2, MASKED
from tests.tiny import random_params
from tests.trust.mutations import damaged_bytes, damaged_json, memory_limit, read_or_refusal, seeds

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def plain_tensors(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, read by its offsets."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[end:][slice(*entry["data_offsets"])], DTYPES[entry["dtype"]])
        .astype(np.float32)
        .reshape(entry["shape"])
        for name, entry in header.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model_folder(tmp_path / "model", random_params(GPT2), GPT2)
    return tmp_path / "model"


@seeds(250, 1500)
def test_a_checkpoint_is_refused_or_read_as_its_bytes_say(folder, tmp_path, cases):
    path, accepted = folder / "model.safetensors", 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            data = damaged_bytes(whole, np.random.default_rng([1, case]))
            path.write_bytes(data)
            found = read_or_refusal(lambda: load_params(folder, GPT2), str(folder), case)
            if found is None:
                continue
            accepted += 1
            params, sha256 = found
            assert sha256 == hashlib.sha256(data).hexdigest()
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            save_model_folder(tmp_path / "again", params, GPT2)
            written = load_file(tmp_path / "again" / "model.safetensors")
            expected = plain_tensors(data)
            for name, tensor in written.items():
                np.testing.assert_array_equal(tensor, expected[name], err_msg=str(case))
    assert 0 < accepted < len(cases)


@seeds(250, 1500)
def test_an_index_is_refused_or_leads_to_the_same_weights(folder, cases):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(where.values()):
        save_file({n: t for n, t in tensors.items() if where[n] == shard}, folder / shard)
    path = folder / "model.safetensors.index.json"
    whole = json.dumps({"metadata": {"total_size": 7}, "weight_map": where}).encode()
    expected, accepted = leaf_paths(random_params(GPT2)), 0
    with memory_limit():
        for case in cases:
            path.write_bytes(damaged_json(whole, np.random.default_rng([2, case])))
            found = read_or_refusal(lambda: load_params(folder, GPT2), str(folder), case)
            if found is not None:
                accepted += 1
                for name, leaf in leaf_paths(found[0]).items():
                    np.testing.assert_array_equal(leaf, expected[name], err_msg=str(case))
    assert 0 < accepted < len(cases)


@pytest.mark.parametrize("name", ["gpt2", "opt", "neox", "bloom", "llama", "qwen2", *MASKED])
@seeds(100, 600)
def test_a_config_is_refused_or_read_as_its_fields_say(tmp_path, name, cases):
    config = EVERY[name]
    folder = tmp_path / "model"
    save_model_folder(folder, random_params(config), config)
    path, accepted = folder / "config.json", 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            path.write_bytes(damaged_json(whole, np.random.default_rng([3, case])))
            found = read_or_refusal(lambda: load_config(folder), str(folder), case)
            if found is None:
                continue
            accepted += 1
            require_what_it_says(found, path, case)
            # Whatever it promises, no more is read than the checkpoint holds.
            params = read_or_refusal(lambda c=found: load_params(folder, c), str(folder), case)
            assert params is None or found.layers == config.layers
    assert 0 < accepted < len(cases)


def require_what_it_says(config: ModelConfig, path: Path, case: int) -> None:
    said = json.loads(path.read_bytes())
    assert said["model_type"] == config.family, case
    for ours, theirs in FAMILIES[config.family].fields.items():
        if said.get(theirs) is not None:
            assert getattr(config, ours) == said[theirs], (case, theirs)


@pytest.fixture
def with_tokenizer(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:40]
    trainer = trainers.BpeTrainer(
        vocab_size=60, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(["abc abd abca aabb cabd"] * 9, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = ModelConfig(
        family="gpt2", layers=1, width=4, heads=2, mlp_width=4, vocab_size=64, context=8
    )
    save_model_folder(
        tmp_path / "model",
        random_params(config),
        config,
        tokenizer_file=tmp_path / "tokenizer.json",
    )
    return tmp_path / "model"


@seeds(250, 1200)
def test_a_tokenizer_is_refused_or_encodes_as_its_file_says(with_tokenizer, cases):
    folder, accepted = with_tokenizer, 0
    path, config = folder / "tokenizer.json", load_config(folder)
    whole, text = path.read_bytes(), "abc cab abd"
    with memory_limit():
        for case in cases:
            data = damaged_json(whole, np.random.default_rng([4, case]))
            path.write_bytes(data)
            found = read_or_refusal(lambda: read_tokenizer(folder, config), str(folder), case)
            if found is None:
                continue
            accepted += 1
            plain = Tokenizer.from_str(data.decode())
            assert found.get_vocab() == plain.get_vocab(), case
            plain.no_padding()
            plain.no_truncation()
            assert found(text)["input_ids"] == plain.encode(text).ids, case
    assert 0 < accepted < len(cases)


@seeds(100, 500)
def test_the_settings_of_a_tokenizer_never_change_its_vocabulary(with_tokenizer, cases):
    folder, accepted = with_tokenizer, 0
    path, config = folder / "tokenizer_config.json", load_config(folder)
    whole, vocabulary = path.read_bytes(), read_tokenizer(folder, config).get_vocab()
    with memory_limit():
        for case in cases:
            path.write_bytes(damaged_json(whole, np.random.default_rng([5, case])))
            found = read_or_refusal(lambda: read_tokenizer(folder, config), str(folder), case)
            if found is not None:
                accepted += 1
                assert found.get_vocab().items() >= vocabulary.items(), case
    assert 0 < accepted < len(cases)
