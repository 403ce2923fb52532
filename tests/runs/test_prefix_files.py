"""Prefixes on disk: as they were in half precision, and nothing damaged or foreign is taken."""

from dataclasses import replace

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.model import Model
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.prefix import prefix_bytes, round_prefix
from jaxprotect.runs.prefix_files import load_prefix, save_prefix
from tests.tiny import CONFIG, SEPARATE, random_params

MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="a" * 64)
PREFIX = make_prefix(MODEL.params, [3, 1, 4], CONFIG)


def assert_same(found, expected):
    assert found.tokens == expected.tokens
    for name in ("keys", "values", "hidden"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("tokens", [(3, 1, 4), ()])
def test_a_prefix_comes_back_rounded(tokens, tmp_path):
    path = tmp_path / "prefix.safetensors"
    prefix = replace(PREFIX, tokens=tokens)
    save_prefix(path, prefix, MODEL)
    assert_same(load_prefix(path, MODEL), round_prefix(prefix))
    assert prefix_bytes(prefix) <= path.stat().st_size <= prefix_bytes(prefix) + 600


def test_prefixes_of_another_model_are_refused(tmp_path):
    path = tmp_path / "prefix.safetensors"
    save_prefix(path, PREFIX, MODEL)
    with pytest.raises(InputError, match="belongs to another model than tiny"):
        load_prefix(path, replace(MODEL, sha256="b" * 64))
    other = replace(MODEL, config=replace(SEPARATE, layers=3), name="other")
    with pytest.raises(InputError, match="`prefix` has keys of shape"):
        load_prefix(path, other)
    with pytest.raises(InputError, match="`prefix` has keys of shape"):
        save_prefix(path, PREFIX, other)


def test_values_beyond_half_precision_are_refused(tmp_path):
    with pytest.raises(InputError, match="values that float16 cannot hold"):
        save_prefix(tmp_path / "p", replace(PREFIX, hidden=PREFIX.hidden + 1e6), MODEL)
    assert not (tmp_path / "p").exists()


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    path = tmp_path / "prefix.safetensors"
    save_prefix(path, PREFIX, MODEL)
    whole, expected = path.read_bytes(), load_prefix(path, MODEL)
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            found = load_prefix(path, MODEL)
        except InputError:
            refused += 1
            continue
        assert_same(found, expected)  # a bit that means nothing, such as a space of the header
    assert refused > 100


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_files_that_are_no_prefixes_are_refused(content, tmp_path):
    path = tmp_path / "prefix.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"`prefix` .* cannot be read"):
        load_prefix(path, MODEL)
