"""Masks on disk: bit for bit, and nothing damaged or foreign is taken."""

from dataclasses import replace

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.model import Model
from jaxprotect.runs.mask_files import load_mask, save_mask
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.tiny import CONFIG, SEPARATE, random_params

MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="a" * 64)
MASKS = {
    "dense": lambda params: masks.by_magnitude(params, fraction=0.07),
    "layers": lambda params: masks.layers(params, [1]),
    "none": masks.none,
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_comes_back_as_it_was(kind, tmp_path):
    mask = MASKS[kind](MODEL.params)
    save_mask(tmp_path / "mask.npz", mask, MODEL)
    back = leaf_paths(load_mask(tmp_path / "mask.npz", MODEL))
    for path, leaf in leaf_paths(mask).items():
        assert back[path].dtype == bool
        np.testing.assert_array_equal(back[path], leaf, err_msg=path)
        assert back[path].shape == np.shape(leaf)


def test_masks_of_another_model_are_refused(tmp_path):
    path = tmp_path / "mask.npz"
    save_mask(path, masks.none(MODEL.params), MODEL)
    with pytest.raises(InputError, match="belongs to another model than tiny"):
        load_mask(path, replace(MODEL, sha256="b" * 64))
    other = replace(MODEL, config=SEPARATE, params=random_params(SEPARATE))
    with pytest.raises(InputError, match="differ in the leaves"):
        load_mask(path, other)


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    path = tmp_path / "mask.npz"
    mask = masks.by_magnitude(MODEL.params, fraction=0.3)
    save_mask(path, mask, MODEL)
    whole = path.read_bytes()
    expected = leaf_paths(load_mask(path, MODEL))
    generator = np.random.default_rng(0)
    for position in generator.choice(len(whole), 60, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            found = leaf_paths(load_mask(path, MODEL))
        except InputError:
            continue
        for name, leaf in expected.items():  # a bit that means nothing, such as a time stamp
            np.testing.assert_array_equal(found[name], leaf)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04"])
def test_files_that_are_no_masks_are_refused(content, tmp_path):
    path = tmp_path / "mask.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        load_mask(path, MODEL)
