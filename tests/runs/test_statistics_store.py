"""Statistics on disk: the same numbers back, or an error that says what is wrong."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.model import Model
from jaxprotect.runs import statistics_store
from jaxprotect.runs.orbax_trees import load_tree, save_tree
from jaxprotect.runs.statistics_store import PARTS, measure_statistics, open_store, read_store
from jaxprotect.trees import leaf_paths
from tests.selection.test_scores import random_statistics
from tests.selection.test_sensitivity import ENCODED
from tests.tiny import CONFIG, random_params, trees_equal

LANGUAGES = ("eng_Latn", "heb_Hebr")
TEXTS = {"source": "s", "sha256": "t", "languages": list(LANGUAGES), "ids": [1, 2]}
MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="m")


def fresh(folder, **changed):
    options = {"model": MODEL, "texts_description": TEXTS, "labels": "data", "seed": 0}
    return open_store(folder, **(options | {"precision": "float32"} | changed))


@pytest.fixture
def filled(tmp_path):
    store = fresh(tmp_path / "store")
    for seed, language in enumerate(LANGUAGES):
        store = store.save(language, random_statistics(MODEL.params, seed), nats=100.0 + seed)
    return store


def test_what_is_saved_comes_back_bit_for_bit(filled):
    store = read_store(filled.folder, MODEL)
    assert store.languages == LANGUAGES
    assert store.nats == {"eng_Latn": 100.0, "heb_Hebr": 101.0}
    for seed, language in enumerate(LANGUAGES):
        saved, found = random_statistics(MODEL.params, seed), store.load(language)
        for part in ("gradient", "absolute", "square"):
            assert trees_equal(getattr(saved, part), getattr(found, part))
        assert saved.inputs.keys() == found.inputs.keys()
        for path, of in saved.inputs.items():
            assert trees_equal(vars(of), vars(found.inputs[path]))
        assert (found.sentences, found.tokens) == (saved.sentences, saved.tokens)
    assert trees_equal(store.square("heb_Hebr"), random_statistics(MODEL.params, 1).square)
    only = store.load("eng_Latn", ("absolute",))
    assert only.gradient == only.square == only.inputs == {}


def test_bfloat16_halves_the_size_and_rounds_once(tmp_path):
    store = fresh(tmp_path / "small", precision="bfloat16")
    saved = random_statistics(MODEL.params)
    store = store.save("eng_Latn", saved, nats=1.0)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), saved.square)
    assert trees_equal(store.square("eng_Latn"), rounded)


_ON_FOUR = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp
from jaxprotect.host_arrays import on_host
from jaxprotect.runs.orbax_trees import load_tree, save_tree

folder = Path(sys.argv[1])
mesh = Mesh(np.array(jax.devices()), ("model",))
spread = NamedSharding(mesh, PartitionSpec("model"))
tree = {"a": jax.device_put(np.arange(16.0, dtype=np.float32).reshape(8, 2), spread)}
save_tree(folder / "four", jax.tree.map(on_host, tree))
ocp.save(str(folder / "before"), tree)  # as stores were written until arrays were NumPy's
found = load_tree(folder / "one", 16)["a"]
assert isinstance(found, np.ndarray) and (found == tree["a"]).all()
"""


def test_trees_are_read_on_other_devices_than_they_were_made_on(tmp_path):
    tree = {"a": np.arange(16.0, dtype=np.float32).reshape(8, 2)}
    save_tree(tmp_path / "one", tree)
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run(
        [sys.executable, "-c", _ON_FOUR, str(tmp_path)], env=os.environ | flags, check=True
    )
    for name in ("one", "four", "before"):
        found = load_tree(tmp_path / name, 16)["a"]
        assert isinstance(found, np.ndarray)  # no device has all of a leaf
        np.testing.assert_array_equal(found, tree["a"])


def test_a_flipped_bit_is_found(filled):
    """In every file of numbers, wherever Orbax keeps it."""
    files = [p for p in (filled.folder / "eng_Latn" / "square").rglob("*") if p.is_file()]
    data = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged at|cannot be read"):
        filled.square("eng_Latn")
    assert filled.load("eng_Latn", ("absolute",)).absolute  # what is whole can be read


def test_a_missing_part_is_named(filled):
    for file in (filled.folder / "heb_Hebr" / "square").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(InputError, match=r"heb_Hebr/square cannot be read"):
        filled.square("heb_Hebr")


@pytest.mark.parametrize(
    ("changed", "entry"),
    [
        ({"labels": "model"}, "labels"),
        ({"seed": 1}, "seed"),
        ({"precision": "bfloat16"}, "precision"),
        ({"texts_description": TEXTS | {"sha256": "other"}}, "texts"),
    ],
)
def test_statistics_of_something_else_are_refused(filled, changed, entry):
    with pytest.raises(InputError, match=f"holds statistics of another {entry}"):
        fresh(filled.folder, **changed)


def test_statistics_of_another_model_are_refused(filled, tmp_path):
    other = Model(config=CONFIG, params=MODEL.params, tokenizer=None, name="other", sha256="x")
    with pytest.raises(InputError, match="another model than other"):
        read_store(filled.folder, other)
    with pytest.raises(InputError, match="another model"):
        fresh(filled.folder, model=other)
    with pytest.raises(InputError, match=r"holds no statistics: it has no manifest\.json"):
        read_store(tmp_path, MODEL)
    (filled.folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="is not readable as JSON"):
        read_store(filled.folder, MODEL)


def test_statistics_from_before_a_field_of_architectures_still_fit(tmp_path):
    fresh(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["model"]["architecture"]["gated_mlp"]
    path.write_text(json.dumps(manifest))
    fresh(tmp_path)
    del manifest["model"]["architecture"]["layers"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="statistics of another model"):
        fresh(tmp_path)


def test_a_language_that_is_not_there_is_named(filled):
    with pytest.raises(InputError, match=r"`language` is 'tam_Taml'.*has eng_Latn, heb_Hebr"):
        filled.load("tam_Taml")


def test_a_killed_measurement_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def counted(params, encoded, config, *, language, **options):
        asked.append(language)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return random_statistics(params, LANGUAGES.index(language))

    monkeypatch.setattr(statistics_store, "language_statistics", counted)
    nats = dict.fromkeys(LANGUAGES, 1.0)
    with pytest.raises(KeyboardInterrupt):
        measure_statistics(fresh(tmp_path), MODEL, ENCODED, nats)
    assert fresh(tmp_path).languages == ("eng_Latn",)
    store = measure_statistics(fresh(tmp_path), MODEL, ENCODED, nats)
    assert asked == ["eng_Latn", "heb_Hebr", "heb_Hebr"]
    assert store.languages == LANGUAGES
    assert trees_equal(store.square("heb_Hebr"), random_statistics(MODEL.params, 1).square)


def test_checksums_name_every_leaf(filled):
    manifest = json.loads((filled.folder / "manifest.json").read_text())
    sums = manifest["languages"]["eng_Latn"]["sha256"]
    assert set(sums) == set(PARTS)
    assert set(sums["square"]) == set(leaf_paths(MODEL.params))
    assert np.all([len(value) == 64 for value in sums["square"].values()])


def test_the_manifest_says_what_computed_and_how_exactly(filled):
    manifest = read_store(filled.folder, MODEL).manifest
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["device"]["platform"] == "cpu"
    assert manifest["device"]["matmul_precision"] == "highest"
