"""Weight files: damaged ones, indices that lie or leave the folder, and what is never read."""

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import load_params, save_model_folder
from tests.models.tiny_models import GPT2, assert_same
from tests.tiny import random_params

UP = "transformer.h.1.mlp.c_fc.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model_folder(tmp_path / "model", random_params(GPT2), GPT2)
    return tmp_path / "model"


def refuses(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_params(folder, GPT2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: b"PK\x03\x04" + data,
    ],
)
def test_damaged_safetensors(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refuses(folder, r"model\.safetensors` is damaged or no safetensors file")


def test_a_tensor_named_twice_in_one_header(folder):
    entry = '"{}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    header = "{" + entry.format(UP) + "," + entry.format(UP) + "}"
    data = struct.pack("<Q", len(header)) + header.encode() + bytes(4)
    (folder / "model.safetensors").write_bytes(data)
    refuses(folder, f"the key `{UP}` is set twice")


def test_folders_without_readable_weights(tmp_path):
    refuses(tmp_path / "none", "is not a folder")
    refuses(tmp_path, r"has no weights in model\.safetensors.*it holds nothing")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    refuses(
        tmp_path, r"it holds `pytorch_model\.bin`; pickles are never loaded: convert.*AutoTokenizer"
    )
    (tmp_path / "tf_model.h5").touch()
    refuses(tmp_path, r"it holds `pytorch_model\.bin`, `tf_model\.h5`; pickles")


@pytest.fixture
def sharded(folder: Path) -> tuple[Path, dict[str, str]]:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in set(where.values()):
        save_file({n: t for n, t in tensors.items() if where[n] == shard}, folder / shard)
    write_index(folder, where)
    return folder, where


def write_index(folder: Path, where: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_shards_hold_the_same_params(sharded):
    params, sha256 = load_params(sharded[0], GPT2)
    assert_same(params, random_params(GPT2))
    both = b"".join((sharded[0] / f"model-{i}.safetensors").read_bytes() for i in (1, 2))
    assert sha256 == hashlib.sha256(both).hexdigest()


@pytest.mark.parametrize("name", ["../model-1.safetensors", "ABSOLUTE", "link.safetensors", ".."])
def test_an_index_may_not_leave_the_folder(sharded, tmp_path, name):
    folder, where = sharded
    (folder / "model-1.safetensors").rename(tmp_path / "model-1.safetensors")
    os.symlink(tmp_path / "model-1.safetensors", folder / "link.safetensors")
    name = str(tmp_path / "model-1.safetensors") if name == "ABSOLUTE" else name
    write_index(folder, {n: w if "2" in w else name for n, w in where.items()})
    refuses(folder, "allowed: files inside the folder")


def test_the_hub_cache_links_shards_to_its_blobs(sharded, tmp_path):
    folder = sharded[0]
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, path in enumerate(folder.iterdir()):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(i))
    assert_same(load_params(snapshot, GPT2)[0], random_params(GPT2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {UP: "model-3.safetensors"}, r"names 'model-3\.safetensors', .*missing"),
        (
            lambda w: w | {"extra": "model-1.safetensors"},
            r"says that `extra` is in 'model-1\.safetensors'; found in no file",
        ),
        (
            lambda w: {n: f"model-{3 - int(f[6])}.safetensors" for n, f in w.items()},
            r"says that .* found in model-",
        ),
        (lambda w: list(w), "has no `weight_map`"),
        (lambda w: dict.fromkeys(w, 1), "has no `weight_map`"),
    ],
)
def test_an_index_must_fit_its_files(sharded, change, message):
    folder, where = sharded
    write_index(folder, change(where))
    refuses(folder, message)


def test_unreadable_and_ambiguous_indices(sharded):
    folder, where = sharded
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "x", "a": "y"}}')
    refuses(folder, "the key `a` is set twice")
    index.write_text("{")
    refuses(folder, "not readable as JSON")
    write_index(folder, where)
    shard = load_file(folder / "model-2.safetensors")
    name = next(name for name in where if where[name] == "model-1.safetensors")
    save_file(shard | {name: np.zeros(1, np.float32)}, folder / "model-2.safetensors")
    refuses(folder, rf"tensor `{name}` is in model-1\.safetensors and model-2\.safetensors")
