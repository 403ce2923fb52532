"""A packed folder: the size it claims, the model it came from, and every way it can be wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from jaxprotect.errors import InputError
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub import REFERENCE_FOLDER
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.packed_params import is_packed, unpack_params
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs import packed_files
from jaxprotect.runs.export import export_hf
from jaxprotect.runs.packed_files import pack, packed_file_size
from jaxprotect.runs.packed_loading import load_model, load_packed, read_manifest
from jaxprotect.selection import masks
from tests.models.tiny_models import EVERY, GPT2
from tests.quantization.packing_cases import CASES, mixed_bits, name_of, random_mask
from tests.tiny import random_params

SPEC = QuantSpec(bits=3, protected_dtype="float16")
ARRAY = "blocks.1.mlp.up.kernel.codes.3"


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


def model_of(config=GPT2, seed=0) -> Model:
    return Model(config=config, params=random_params(config, seed), tokenizer=None, name="tiny")


def packed_folder(path: Path, config=GPT2, spec=SPEC) -> Path:
    model = model_of(config)
    with jax.disable_jit():
        pack(path, model, random_mask(model.params, 1), spec)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return packed_folder(tmp_path_factory.mktemp("packed") / "model")


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy that a test may damage."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize("found", [CASES[2], slow(CASES[8]), slow(CASES[10])], ids=name_of)
def test_the_file_has_the_size_that_shapes_and_flags_predict(tmp_path, found):
    config, spec, seed, mixed = found
    model = model_of(config, seed)
    mask = random_mask(model.params, seed)
    bits = mixed_bits(model.params, spec, seed) if mixed else None
    with jax.disable_jit():
        size = pack(tmp_path / "model", model, mask, spec, bits=bits)
    shapes = parameter_shapes(config)
    predicted = packed_file_size(shapes, mask, spec, config, bits)
    path = tmp_path / "model" / "model.safetensors"
    assert predicted == os.path.getsize(path)
    assert size == protected_size(shapes, mask, spec, bits)
    manifest = read_manifest(tmp_path / "model")
    assert (manifest["bytes"], manifest["parts"]) == (predicted, size.rows())
    assert manifest["device"]["matmul_precision"] == "highest"
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert predicted == 8 + header + size.total
    with safe_open(path, framework="numpy") as file:  # the library reads what was written by hand
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert sum(array.nbytes for array in arrays.values()) == size.total
    assert arrays.keys() == manifest["sha256"].keys()


@pytest.mark.parametrize("name", ["gpt2", *map(slow, [*EVERY][1:])])
def test_a_loaded_model_unpacks_to_the_quantized_one(tmp_path, name):
    model = model_of(replace(EVERY[name], norm_epsilon=1e-5))
    mask = random_mask(model.params, 2)
    with jax.disable_jit():
        pack(tmp_path / "model", model, mask, SPEC)
        loaded = load_model(tmp_path / "model")
        assert loaded.config == model.config
        assert is_packed(loaded.params)
        dense = quantize_leaves(model.params, mask, SPEC, model.config)
    unpacked = unpack_params(loaded.params, model.config)
    for a, b in zip(jax.tree.leaves(unpacked), jax.tree.leaves(dense), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_model_is_the_same_bytes(written, tmp_path):
    again = packed_folder(tmp_path / "again")
    for file in written.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_compensated_params_are_packed_in_place_of_the_models(tmp_path):
    model, other = model_of(), random_params(GPT2, 5)
    mask = masks.none(other)
    with jax.disable_jit():
        pack(tmp_path / "model", model, mask, SPEC, params=other)
        dense = quantize_leaves(other, mask, SPEC, GPT2)
        loaded = load_packed(tmp_path / "model")
    unpacked = unpack_params(loaded.params, GPT2)
    np.testing.assert_array_equal(unpacked["embed"]["tokens"], dense["embed"]["tokens"])


def edit_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def edit_byte(folder: Path) -> None:
    """Flip a bit of one array, found by the header."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    header = int.from_bytes(data[:8], "little")
    start = json.loads(data[8 : 8 + header])[ARRAY]["data_offsets"][0]
    data[8 + header + start] ^= 1
    path.write_bytes(data)


def edit_header(folder: Path, old: str, new: str) -> None:
    """Replace text of the header by text of the same length."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def spec_of(**changes) -> dict:
    return {**SPEC.__dict__, **changes}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_byte, f"is damaged at array `{ARRAY}`: its checksum differs"),
        (truncate, "is damaged, truncated or missing"),
        (lambda f: (f / "model.safetensors").unlink(), "is damaged, truncated or missing"),
        (lambda f: edit_manifest(f, version=2), "has format version 2; this version of jaxprotect"),
        (lambda f: (f / "manifest.json").unlink(), "is not a packed model: it has no manifest"),
        (
            lambda f: edit_manifest(f, format="a run"),
            "its manifest.json has the format .a run",
        ),
        (lambda f: (f / "manifest.json").write_text("{"), "is not readable as JSON"),
        (lambda f: (f / "manifest.json").write_text("[]"), "holds a list; allowed: a JSON object"),
        (lambda f: edit_manifest(f, sha256=None), "manifest.json has no sha256"),
        (lambda f: edit_manifest(f, sha256={}), "differ in the arrays"),
        (lambda f: edit_manifest(f, bytes=7), "bytes; manifest.json says 7"),
        (lambda f: edit_manifest(f, spec={}), "`spec` in manifest.json is {}; expected the"),
        (
            lambda f: edit_manifest(f, spec=spec_of(bits=9)),
            "in manifest.json: .*`bits` is 9",
        ),
        (
            lambda f: edit_manifest(f, spec=spec_of(protected_dtype="float8")),
            "`spec` in manifest.json: .*protected_dtype.*float8",
        ),
        (
            lambda f: edit_manifest(f, spec=spec_of(symmetric=False)),
            "has nothing as `zeros`; expected uint8",
        ),
        (
            lambda f: edit_header(f, '"dtype":"U8","shape":', '"dtype":"I8","shape":'),
            "has int8 .* expected uint8",
        ),
        (
            lambda f: edit_header(f, '"dtype":"U8","shape":', '"dtype":"Q8","shape":'),
            "is damaged, truncated or missing",
        ),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
    ],
)
def test_every_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_packed(folder)
    assert "\n" not in str(caught.value)


def test_an_array_of_no_tensor_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    with pytest.raises(InputError, match=r"no tensor of the model has the array `blocks.1"):
        load_packed(folder)


def test_pack_refuses_what_it_cannot_write_and_leaves_nothing(tmp_path, monkeypatch):
    model = model_of()
    mask = masks.none(model.params)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="exists already; give a new or empty folder"):
            pack(taken, model, mask, SPEC)
    (tmp_path / "file").unlink()
    large = replace(model, params=jax.tree.map(lambda w: w * 1e6, model.params))
    with jax.disable_jit(), pytest.raises(InputError, match=r"`blocks.0.attention.out.bias` has"):
        pack(tmp_path / "model", large, mask, SPEC)
    with pytest.raises(InputError, match="differ in the leaves"):
        pack(tmp_path / "model", model, mask, SPEC, params={})
    with pytest.raises(InputError, match="differ in the leaves"):
        packed_file_size({}, mask, SPEC, GPT2)

    def full_disk(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(packed_files, "write_safetensors", full_disk)
    with pytest.raises(OSError, match="No space"):
        pack(tmp_path / "model", model, mask, SPEC)
    assert list(tmp_path.iterdir()) == []


def test_a_packed_model_is_neither_packed_nor_quantized_again(written, tmp_path):
    loaded = load_packed(written)
    mask = masks.none(random_params(GPT2))
    with pytest.raises(InputError, match="is packed already; pack the model it came from"):
        pack(tmp_path / "again", loaded, mask, SPEC)
    with pytest.raises(InputError, match="is packed already; give no `mask` and `spec`"):
        export_hf(tmp_path / "again", loaded, mask=mask, spec=SPEC)
    for options in ({"mask": mask}, {"spec": SPEC}, {"bits": {"a": 1}}):
        with pytest.raises(InputError, match="without"):
            export_hf(tmp_path / "again", loaded, **options)


def test_transformers_refuses_packed_weights_instead_of_drawing_new_ones(written):
    with pytest.raises(ValueError, match="model type `jaxprotect`"):
        AutoModelForCausalLM.from_pretrained(written)


def torch_nats(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Nats of each row's tokens after the first."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1].transpose(1, 2)
        nats = torch.nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none")
    return nats.double().sum(1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "opt", "neox", "bloom", "llama", "mistral", "qwen2"])
def test_torch_gets_the_packed_models_nats_from_its_export(tmp_path, name):
    config = replace(EVERY[name], norm_epsilon=1e-5)
    packed_folder(tmp_path / "packed", config)
    loaded = load_packed(tmp_path / "packed")
    export_hf(tmp_path / "hf", loaded)
    params, _ = load_params(tmp_path / "hf", load_config(tmp_path / "hf"))
    dense = unpack_params(loaded.params, config)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), params, dense)))
    tokens = np.random.default_rng(0).integers(0, 11, (4, 5))
    run = jax.jit(sentence_nats, static_argnums=3)
    ours = run(loaded.params, jnp.asarray(tokens), np.ones(tokens.shape, bool), config)
    np.testing.assert_allclose(ours, torch_nats(tmp_path / "hf", tokens), atol=1e-4)


def test_an_export_is_an_ordinary_folder_with_its_tokenizer(tmp_path):
    config = replace(GPT2, vocab_size=6144, context=16)
    tokenizer = AutoTokenizer.from_pretrained(REFERENCE_FOLDER)
    model = replace(model_of(config), tokenizer=tokenizer)
    mask = masks.none(model.params)
    with jax.disable_jit():
        pack(tmp_path / "packed", model, mask, SPEC)
        loaded = load_packed(tmp_path / "packed")
        export_hf(tmp_path / "from packed", loaded)
        export_hf(tmp_path / "from model", model, mask=mask, spec=SPEC)
    names = {file.name for file in (tmp_path / "from model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    for file in (tmp_path / "from model").iterdir():
        assert file.read_bytes() == (tmp_path / "from packed" / file.name).read_bytes()
    again = AutoTokenizer.from_pretrained(tmp_path / "from packed")
    text = "The packed model."
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "from packed").config.n_layer == 2
