"""Nothing outside a folder is read, nothing is waited for, and no pickle is ever loaded."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub import load_model as load_dense
from jaxprotect.models.model import Model
from jaxprotect.models.tokenizer_files import read_tokenizer
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.mask_files import load_mask
from jaxprotect.runs.packed_files import pack
from jaxprotect.runs.packed_loading import load_model, load_packed
from jaxprotect.runs.results import read_run
from jaxprotect.runs.statistics_store import open_store, read_store
from jaxprotect.selection import masks
from tests.models.tiny_models import GPT2, assert_same
from tests.runs.synthetic import make_run, only
from tests.selection.test_scores import random_statistics
from tests.tiny import CONFIG, random_params, save_tiny_model, trees_equal
from tests.trust.mutations import time_limit

MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="m")


def refuses(read: Callable[[], object], message: str) -> None:
    with time_limit(), pytest.raises(InputError, match=message):
        read()


@pytest.fixture(scope="module")
def dense_folder(tmp_path_factory) -> Path:
    return Path(save_tiny_model(tmp_path_factory.mktemp("dense") / "model"))


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "model"
    model = Model(config=GPT2, params=random_params(GPT2), tokenizer=None, name="tiny")
    with jax.disable_jit():
        pack(folder, model, masks.none(model.params), QuantSpec(bits=4))
    return folder


@pytest.fixture
def dense(dense_folder, tmp_path) -> Path:
    return Path(shutil.copytree(dense_folder, tmp_path / "dense"))


@pytest.fixture
def packed(packed_folder, tmp_path) -> Path:
    return Path(shutil.copytree(packed_folder, tmp_path / "packed"))


def moved_out(path: Path, how: str) -> None:
    """Replace a file by a link to itself outside the folder, or by a pipe."""
    outside = path.parents[1] / "outside"
    outside.mkdir(exist_ok=True)
    path.rename(outside / path.name)
    if how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to((Path("..") / "outside" if how == "relative" else outside) / path.name)


LINKS = pytest.mark.parametrize("how", ["relative", "absolute"])
DENSE = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


@LINKS
@pytest.mark.parametrize("name", DENSE)
def test_links_out_of_a_model_folder_are_refused(dense, name, how):
    moved_out(dense / name, how)
    refuses(lambda: load_model(dense), f"'{name}' leads out of it")


@LINKS
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "manifest.json"])
def test_links_out_of_a_packed_folder_are_refused(packed, name, how):
    moved_out(packed / name, how)
    refuses(lambda: load_packed(packed), f"'{name}' leads out of it")


def test_a_prefix_beside_packed_weights_is_not_read_through_a_link(packed, tmp_path):
    (tmp_path / "prefix").write_bytes(b"elsewhere")
    (packed / "prefix.safetensors").symlink_to(tmp_path / "prefix")
    refuses(lambda: load_packed(packed), "'prefix.safetensors' leads out of it")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pipes_are_not_waited_for(dense, packed, name):
    for folder in (dense, packed):
        moved_out(folder / name, "pipe")
        refuses(lambda of=folder: load_model(of), "no regular file|has no weights|missing")


def test_links_in_a_circle_are_refused(dense):
    (dense / "config.json").unlink()
    (dense / "config.json").symlink_to(dense / "other.json")
    (dense / "other.json").symlink_to(dense / "config.json")
    refuses(lambda: load_config(dense), "config.json")


def test_a_folder_may_be_a_link_and_hold_links_to_itself(dense, tmp_path):
    expected = load_model(dense).params
    (dense / "model.safetensors").rename(dense / "weights")
    (dense / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(dense)
    assert trees_equal(load_model(tmp_path / "link").params, expected)


def test_the_hub_cache_keeps_working(dense, tmp_path):
    repository = tmp_path / "models--owner--name"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    expected = load_model(dense)
    for number, path in enumerate(sorted(dense.iterdir())):
        path.rename(blobs / f"{number}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number}")
    found = load_model(snapshot)
    assert_same(found.params, expected.params)
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()
    # Only a cache has such a store: under another name the same links lead out.
    repository.rename(tmp_path / "repository")
    refuses(lambda: load_model(tmp_path / "repository/snapshots/abc"), "leads out of it")


@pytest.mark.parametrize(
    "setting",
    [
        {"fast_tokenizer_files": ["../outside/tokenizer.4.0.0.json"]},
        {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]},
        {"tokenizer_file": "OUTSIDE"},
        {"vocab_file": "OUTSIDE", "tokenizer_file": "../outside/tokenizer.4.0.0.json"},
    ],
)
def test_settings_of_a_tokenizer_lead_to_no_file_outside(dense, tmp_path, setting):
    outside = tmp_path / "outside" / "tokenizer.4.0.0.json"
    outside.parent.mkdir()
    content = json.loads((dense / "tokenizer.json").read_text())
    content["added_tokens"] += [content["added_tokens"][0] | {"id": 6144, "content": "<stolen>"}]
    outside.write_text(json.dumps(content))
    (dense / "tokenizer.4.0.0.json").symlink_to(outside)
    if "fast_tokenizer_files" not in setting:
        (dense / "tokenizer.4.0.0.json").unlink()
    path, config = dense / "tokenizer_config.json", load_config(dense)
    changed = {k: str(outside) if v == "OUTSIDE" else v for k, v in setting.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    try:
        found = read_tokenizer(dense, config).get_vocab()
    except InputError:
        return
    assert "<stolen>" not in found


@pytest.fixture
def run_folder(tmp_path) -> Path:
    plan = only("none")
    return make_run(tmp_path / "run", plan, languages=("eng_Latn",), sentences=3, draws=40).folder


@pytest.mark.parametrize("variant", ["../../x", "/x", "../x", "..", "link", "x\0", "x" * 999])
def test_names_of_variants_lead_nowhere_else(run_folder, tmp_path, variant):
    """The numbers lie where the name leads, so that only the refusal keeps them from being read."""
    numbers = (run_folder / "nats" / "none.npy").read_bytes()
    for place in (tmp_path / "x.npy", run_folder / "x.npy", tmp_path.parent / "x.npy"):
        place.write_bytes(numbers)
    (run_folder / "nats" / "link.npy").symlink_to(tmp_path / "x.npy")
    variant = str(tmp_path / "x") if variant == "/x" else variant
    path = run_folder / "results.jsonl"
    row = json.loads(path.read_text().splitlines()[0]) | {"variant": variant}
    path.write_text(json.dumps(row) + "\n")
    run = read_run(run_folder)
    refuses(lambda: run.evaluation(variant), "leads out of it|can have no file|cannot be read")


@pytest.mark.parametrize("name", ["manifest.json", "results.jsonl"])
def test_links_out_of_a_run_are_refused(run_folder, name):
    moved_out(run_folder / name, "relative")
    refuses(lambda: read_run(run_folder), f"'{name}' leads out of it")


@pytest.mark.parametrize("language", ["../elsewhere", "ABSOLUTE", "link"])
def test_names_of_languages_lead_to_no_statistics_elsewhere(tmp_path, language):
    texts = {"source": "s", "sha256": "t", "languages": ["eng_Latn"], "ids": [1, 2]}
    options = {"model": MODEL, "texts_description": texts, "labels": "data", "seed": 0}
    store = open_store(tmp_path / "store", **options, precision="float32")
    store.save("eng_Latn", random_statistics(MODEL.params, 0), nats=1.0)
    (tmp_path / "store" / "eng_Latn").rename(tmp_path / "elsewhere")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "elsewhere")
    language = str(tmp_path / "elsewhere") if language == "ABSOLUTE" else language
    path = tmp_path / "store" / "manifest.json"
    path.write_text(path.read_text().replace("eng_Latn", language))
    read = read_store(tmp_path / "store", MODEL)
    refuses(lambda: read.square(language), "leads out of it")


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_in_this_file_would_have_had_its_effect(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_a_pickle_as_weights_is_refused_and_not_run(dense, tmp_path, name):
    (dense / "model.safetensors").unlink()
    (dense / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    refuses(lambda: load_dense(dense), "pickles are never loaded|no safetensors file")
    assert not (tmp_path / "mark").exists()


def test_pickles_in_arrays_are_refused_and_not_run(run_folder, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(tmp_path / "mark")], object), allow_pickle=True)
    (run_folder / "nats" / "none.npy").write_bytes(buffer.getvalue())
    refuses(lambda: read_run(run_folder).evaluation("none"), "Python objects")
    with zipfile.ZipFile(tmp_path / "mask.npz", "w") as file:
        file.writestr("header.npy", buffer.getvalue())
    refuses(lambda: load_mask(tmp_path / "mask.npz", MODEL), "Python objects")
    for content in (pickle.dumps(Bomb(tmp_path / "mark")), buffer.getvalue()):
        (tmp_path / "mask.npz").write_bytes(content)
        refuses(lambda: load_mask(tmp_path / "mask.npz", MODEL), "cannot be read")
    assert not (tmp_path / "mark").exists()
