"""Checkpoints: every way one can be wrong is named, and nothing half written stays."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from jaxprotect.errors import InputError
from jaxprotect.models import checkpoint
from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.transformer import parameter_shapes
from tests.models.tiny_models import EVERY, GPT2, assert_same
from tests.tiny import random_params


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model_folder(tmp_path / "model", random_params(GPT2), GPT2)
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refuses(folder: Path, message: str, config: ModelConfig = GPT2) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_params(folder, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EVERY)
def test_saved_params_load_unchanged(tmp_path, name):
    config = EVERY[name]
    params = random_params(config)
    save_model_folder(tmp_path / "model", params, config)
    loaded, sha256 = load_params(tmp_path / "model", config)
    assert_same(loaded, params)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(loaded))
    data = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert load_config(tmp_path / "model") == replace(config, norm_epsilon=1e-5)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {"config.json", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_known_buffers_are_dropped_whatever_their_type(folder):
    before, _ = load_params(folder, GPT2)

    def add(tensors):
        tensors["transformer.h.0.attn.bias"] = np.ones((1, 1, 5, 5), bool)
        tensors["h.1.attn.masked_bias"] = np.full((), -1e4, np.float64)

    edit(folder, add)
    assert_same(load_params(folder, GPT2)[0], before)


WTE, UP = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(UP), f"missing tensor `{UP}`: .* 27 of the 28"),
        (lambda t: [t.pop(n) for n in list(t)], "missing tensor .* and 25 more"),
        (lambda t: t.update({"score.weight": t[WTE] + 0}), "unknown tensor `score.weight`"),
        (lambda t: t.update({"h.2.attn.bias": t[WTE] + 0}), "unknown tensor `h.2.attn.bias`"),
        (lambda t: t.update({"wte.weight": t[WTE] + 0}), f"`{WTE}` and `wte.weight` are the same"),
        (
            lambda t: t.update({WTE: t[WTE][:10] + 0}),
            rf"`{WTE}` has shape \(10, 6\); expected \(11, 6\)",
        ),
        (lambda t: t.update({UP: t[UP].T.copy()}), rf"`{UP}` has shape \(10, 6\)"),
        (lambda t: t.update({UP: t[UP].astype(np.int32)}), f"`{UP}` is I32; allowed: float32"),
        (lambda t: t.update({UP: t[UP].astype(np.float64)}), f"`{UP}` is F64"),
        (lambda t: t[UP].__setitem__((2, 3), np.nan), f"`{UP}` has 1 non-finite of 60 values"),
        (lambda t: t[UP].__setitem__(1, -np.inf), f"`{UP}` has 10 non-finite"),
        (lambda t: t.update({"lm_head.weight": t[WTE] + 1}), "`lm_head.weight` differs from"),
        (lambda t: t.update({"lm_head.weight": t[WTE].T.copy()}), "`lm_head.weight` has shape"),
    ],
)
def test_wrong_tensors_are_named(folder, change, message):
    edit(folder, change)
    refuses(folder, message)


def test_a_copy_of_the_embedding_may_be_stored_as_the_tied_head(folder):
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[WTE].copy()}))
    assert "head" not in load_params(folder, GPT2)[0]


def test_an_untied_head_may_not_be_left_out(folder):
    refuses(folder, "missing tensor `lm_head.weight`", replace(GPT2, tied_head=False))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_non_finite_values_are_found_in_half_precision(folder, dtype):
    def change(tensors):
        tensors[UP] = tensors[UP].astype(dtype)
        tensors[UP][3, 3] = np.nan

    edit(folder, change)
    refuses(folder, "has 1 non-finite of 60 values")


def test_loading_holds_the_model_once(tmp_path):
    config = replace(GPT2, layers=8, width=192, mlp_width=768, vocab_size=2000)
    save_model_folder(tmp_path, random_params(config), config)
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(parameter_shapes(config)))
    tracemalloc.start()
    load_params(tmp_path, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * size


def test_float16_that_overflows_is_refused_and_leaves_nothing(tmp_path):
    params = random_params(GPT2)
    params["embed"]["tokens"] = params["embed"]["tokens"].at[3, 2].set(7e4)
    with pytest.raises(InputError, match=f"as float16: tensor `{WTE}` has 1 non-finite of 66"):
        save_model_folder(tmp_path / "model", params, GPT2, dtype="float16")
    assert list(tmp_path.iterdir()) == []
    save_model_folder(tmp_path / "model", params, GPT2, dtype="bfloat16")
    assert json.loads((tmp_path / "model/config.json").read_text())["torch_dtype"] == "bfloat16"


def test_params_of_other_shapes_are_not_written(tmp_path):
    params = random_params(GPT2)
    message = r"`params` at blocks/mlp/down/kernel has \(2, 10, 6\); expected \(2, 11, 6\)"
    with pytest.raises(InputError, match=message):
        save_model_folder(tmp_path / "model", params, replace(GPT2, mlp_width=11))
    del params["norm"]
    with pytest.raises(InputError, match=r"`params` at norm/bias has nothing; expected \(6,\)"):
        save_model_folder(tmp_path / "model", params, GPT2)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model_folder(tmp_path / "model", random_params(GPT2), GPT2)
    assert list(tmp_path.iterdir()) == []


def test_other_bad_arguments_of_save(tmp_path):
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="exists already; give a new or empty folder"):
            save_model_folder(taken, random_params(GPT2), GPT2)
    with pytest.raises(InputError, match="both given"):
        save_model_folder(
            tmp_path / "new", random_params(GPT2), GPT2, tokenizer_file="a", tokenizer=object()
        )
    with pytest.raises(InputError, match=r"`tokenizer_file` .* not readable"):
        save_model_folder(
            tmp_path / "new", random_params(GPT2), GPT2, tokenizer_file=tmp_path / "none.json"
        )
    with pytest.raises(InputError, match="`model_type` is 'mamba'"):
        save_model_folder(tmp_path / "new", random_params(GPT2), replace(GPT2, family="mamba"))


def test_the_tokenizer_file_is_written_with_its_start_token(tmp_path):
    vocabulary = {"a": 0, "b": 1, "b a": 2, "<|start|>": 3}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("/")
    backend.add_special_tokens(["<|start|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    params = random_params(GPT2)
    save_model_folder(
        tmp_path / "one", params, GPT2, tokenizer_file=tmp_path / "tokenizer.json", dtype="float16"
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert tokenizer("a/b a/b")["input_ids"] == [0, 2, 1]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 3
    assert tokenizer.model_max_length == GPT2.context
    content = json.loads((tmp_path / "one/config.json").read_text())
    assert (content["bos_token_id"], content["pad_token_id"]) == (3, None)

    save_model_folder(tmp_path / "two", params, GPT2, tokenizer=tokenizer)
    again = AutoTokenizer.from_pretrained(tmp_path / "two")
    assert again("a/b a/b")["input_ids"] == [0, 2, 1]
    assert again.bos_token == "<|start|>"
