"""Damaged files of ours: refused in one line that names the file, or the very same result.

Every array has a checksum. JSON that lies beside arrays has none: where it is accepted, it is
read as JSON has it, and the arrays are still the same.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.model import Model
from jaxprotect.models.prefix import Prefix
from jaxprotect.quantization.packed_params import unpack_params
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.mask_files import load_mask, save_mask
from jaxprotect.runs.packed_files import pack
from jaxprotect.runs.packed_loading import load_packed
from jaxprotect.runs.prefix_files import load_prefix, save_prefix
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.quantization.packing_cases import random_mask
from tests.tiny import random_params
from tests.trust.mutations import (
    FLIPS,
    damaged_bytes,
    damaged_json,
    every_flip,
    memory_limit,
    read_or_refusal,
    seeds,
)

CONFIG = ModelConfig(
    family="gpt2", layers=1, width=4, heads=2, mlp_width=6, vocab_size=7, context=5
)
MODEL = Model(
    config=CONFIG, params=random_params(CONFIG), tokenizer=None, name="tiny", sha256="a" * 64
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "model"
    with jax.disable_jit():
        pack(folder, MODEL, random_mask(MODEL.params, 1), QuantSpec(bits=3))
    return folder


@pytest.fixture
def folder(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "model"))


def require_same_packed(found: Model, expected: Model, case: object) -> None:
    a, b = jax.tree.leaves(found.params), jax.tree.leaves(expected.params)
    if jax.tree.structure(found.params) != jax.tree.structure(expected.params):
        # An entry of the quantizer that these arrays do not depend on.
        a = jax.tree.leaves(unpack_params(found.params, found.config))
        b = jax.tree.leaves(unpack_params(expected.params, expected.config))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=str(case))


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "config.json"])
@seeds(100, 700)
def test_a_packed_folder_is_refused_or_the_same(folder, cases, name):
    path, expected = folder / name, load_packed(folder)
    whole, refused = path.read_bytes(), 0
    damage = damaged_bytes if name.endswith("safetensors") else damaged_json
    with memory_limit():
        for case in cases:
            path.write_bytes(damage(whole, np.random.default_rng([1, case])))
            found = read_or_refusal(lambda: load_packed(folder), str(folder), case)
            if found is None:
                refused += 1
                continue
            require_same_packed(found, expected, case)
            assert found.config == load_config(folder), case
    assert refused > len(cases) / 4


@pytest.mark.parametrize(("step", "bits"), FLIPS)
def test_flipped_bits_of_packed_arrays_are_found(folder, step, bits):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for case, data in every_flip(whole, range(start, len(whole), step), bits):
        path.write_bytes(data)
        assert read_or_refusal(lambda: load_packed(folder), str(path), case) is None, case


@pytest.fixture
def mask_file(tmp_path) -> Path:
    save_mask(tmp_path / "mask.npz", masks.by_magnitude(MODEL.params, fraction=0.3), MODEL)
    return tmp_path / "mask.npz"


def require_same_mask(found: dict, expected: dict, case: object) -> None:
    for name, leaf in leaf_paths(expected).items():
        np.testing.assert_array_equal(leaf_paths(found)[name], leaf, err_msg=str(case))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write_members(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in content.items():
            file.writestr(name, data)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@seeds(400, 2000)
def test_a_mask_is_refused_or_the_same(mask_file, cases):
    """Bytes of the file, and of its members with fresh sums of the zip format around them."""
    whole, expected, refused = mask_file.read_bytes(), load_mask(mask_file, MODEL), 0
    inside = members(mask_file)
    with memory_limit():
        for case in cases:
            generator = np.random.default_rng([2, case])
            if case % 2:
                mask_file.write_bytes(damaged_bytes(whole, generator))
            else:
                name = list(inside)[generator.integers(len(inside))]
                changed = inside | {name: damaged_bytes(inside[name], generator)}
                write_members(mask_file, changed)
            found = read_or_refusal(lambda: load_mask(mask_file, MODEL), str(mask_file), case)
            if found is None:
                refused += 1
            else:
                require_same_mask(found, expected, case)
    assert len(cases) / 4 < refused < len(cases)


@seeds(300, 1500)
def test_the_header_of_a_mask_is_refused_or_read_as_it_says(mask_file, cases):
    inside, expected, refused = members(mask_file), load_mask(mask_file, MODEL), 0
    text = np.load(mask_file)["header"].tobytes()
    with memory_limit():
        for case in cases:
            header = damaged_json(text, np.random.default_rng([3, case]))
            changed = npy(np.frombuffer(header, np.uint8))
            write_members(mask_file, inside | {"header.npy": changed})
            found = read_or_refusal(lambda: load_mask(mask_file, MODEL), str(mask_file), case)
            if found is None:
                refused += 1
                continue
            shapes = json.loads(header)["shapes"]
            for name, leaf in leaf_paths(found).items():
                flat = leaf_paths(expected)[name].reshape(-1)
                np.testing.assert_array_equal(leaf, flat.reshape(shapes[name]), err_msg=str(case))
    assert len(cases) / 4 < refused


def test_every_flipped_bit_of_the_arrays_of_a_mask_is_found(mask_file):
    """Under fresh sums of the zip format, which are no help then."""
    inside = members(mask_file)
    for name, data in inside.items():
        start = len(data) if name == "header.npy" else data.index(b"\n") + 1
        for case, changed in every_flip(data, range(start, len(data)), 8):
            write_members(mask_file, inside | {name: changed})
            found = read_or_refusal(lambda: load_mask(mask_file, MODEL), str(mask_file), case)
            assert found is None, (name, case)


@pytest.mark.parametrize(("step", "bits"), FLIPS)
def test_a_flipped_bit_of_a_mask_is_found_or_means_nothing(mask_file, step, bits):
    whole, expected = mask_file.read_bytes(), load_mask(mask_file, MODEL)
    for case, data in every_flip(whole, range(0, len(whole), step), bits):
        mask_file.write_bytes(data)
        found = read_or_refusal(lambda: load_mask(mask_file, MODEL), str(mask_file), case)
        if found is not None:  # a time stamp, say
            require_same_mask(found, expected, case)


@pytest.mark.parametrize("shape", ["(2**60,)", "(1152921504606846976,)", "(-8,)", "(True, 8)"])
def test_a_mask_whose_arrays_promise_too_much_is_refused(mask_file, shape):
    inside = members(mask_file)
    name = next(name for name in inside if name.startswith("embed"))
    data = inside[name]
    old = data[data.index(b"(") : data.index(b")") + 1]
    write_members(mask_file, inside | {name: data.replace(old, shape.encode(), 1)})
    with memory_limit():
        assert read_or_refusal(lambda: load_mask(mask_file, MODEL), str(mask_file), shape) is None


def test_a_zip_bomb_is_not_unpacked(mask_file):
    with (
        zipfile.ZipFile(mask_file, "a", zipfile.ZIP_DEFLATED) as file,
        file.open("bomb.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(2**9):
            member.write(bytes(2**20))
    assert mask_file.stat().st_size < 2**20
    with memory_limit():
        assert read_or_refusal(lambda: load_mask(mask_file, MODEL), "compressed", 0) is None


@pytest.fixture
def prefix_file(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    draw = lambda *shape: jax.numpy.asarray(generator.normal(size=shape), "float32")  # noqa: E731
    keys, values, hidden = draw(1, 2, 2, 2), draw(1, 2, 2, 2), draw(4)
    made = Prefix(keys=keys, values=values, hidden=hidden, tokens=(3, 5))
    save_prefix(tmp_path / "prefix.safetensors", made, MODEL)
    return tmp_path / "prefix.safetensors"


def require_same_prefix(found: Prefix, expected: Prefix, case: object) -> None:
    assert found.tokens == expected.tokens
    for name in ("keys", "values", "hidden"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), str(case))


@seeds(400, 2000)
def test_a_prefix_is_refused_or_the_same(prefix_file, cases):
    whole, expected, refused = prefix_file.read_bytes(), load_prefix(prefix_file, MODEL), 0
    end = 8 + int.from_bytes(whole[:8], "little")
    with memory_limit():
        for case in cases:
            generator = np.random.default_rng([4, case])
            if case % 2:
                data = damaged_bytes(whole, generator)
            else:
                header = damaged_json(whole[8:end], generator)
                data = len(header).to_bytes(8, "little") + header + whole[end:]
            prefix_file.write_bytes(data)
            found = read_or_refusal(lambda: load_prefix(prefix_file, MODEL), str(prefix_file), case)
            if found is None:
                refused += 1
            else:
                require_same_prefix(found, expected, case)
    assert len(cases) / 4 < refused < len(cases)


def test_every_flipped_bit_of_a_prefix_is_found_or_means_nothing(prefix_file):
    whole, expected = prefix_file.read_bytes(), load_prefix(prefix_file, MODEL)
    end = 8 + int.from_bytes(whole[:8], "little")
    for case, data in every_flip(whole, range(len(whole)), 8):
        prefix_file.write_bytes(data)
        found = read_or_refusal(lambda: load_prefix(prefix_file, MODEL), str(prefix_file), case)
        if found is not None:  # a space of the header, say
            assert case[0] < end, case
            require_same_prefix(found, expected, case)


@pytest.mark.parametrize(
    "tokens", ["[" * 100_000, "5", '"35"', "[3.0, 5]", "[true]", "[1e999]", "{}"]
)
def test_tokens_of_a_prefix_that_are_no_ids_are_refused(prefix_file, tokens):
    arrays = {name: np.zeros(1, np.float16) for name in ("keys", "values", "hidden")}
    header = {"model_sha256": "a" * 64, "tokens": tokens, "sha256": "0"}
    prefix_file.write_bytes(save(arrays, header))
    assert read_or_refusal(lambda: load_prefix(prefix_file, MODEL), str(prefix_file), 0) is None
