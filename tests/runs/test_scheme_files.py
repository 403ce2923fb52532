"""Schemes as files: the size that is promised is the size that is written."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.folders import refuse_used_folder
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.prefix import round_prefix
from jaxprotect.quantization.packed_params import unpack_params
from jaxprotect.quantization.scheme import Scheme, apply_scheme
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.packed_loading import load_model
from jaxprotect.runs.recommend import in_words
from jaxprotect.runs.scheme_files import pack_scheme, scheme_file_size
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.tiny import save_tiny_model, trees_equal


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


def scheme_of(model, kind: str) -> Scheme:
    spec = QuantSpec(bits=3, protected_dtype="float16")
    scheme = Scheme(spec=spec, mask=masks.by_magnitude(model.params, fraction=0.05))
    if kind == "mixed":
        up = leaf_paths(model.params)["blocks/mlp/up/kernel"]
        widths = np.resize([2, 4, 16], (1, 1, up.shape[-1]))
        scheme = replace(scheme, bits={"blocks/mlp/up/kernel": widths})
    if kind == "prefix":
        prefix = make_prefix(model.params, [1, 2], model.config)
        scheme = replace(scheme, prefix=round_prefix(prefix))
    return scheme


@pytest.mark.parametrize("kind", ["protected", "mixed", "prefix"])
def test_the_promised_size_is_the_size_of_the_files(model, kind, tmp_path):
    scheme = scheme_of(model, kind)
    pack_scheme(tmp_path / "packed", model, scheme)
    files = (tmp_path / "packed").glob("*.safetensors")
    assert sum(file.stat().st_size for file in files) == scheme_file_size(model, scheme)
    packed = load_model(tmp_path / "packed")
    stored = apply_scheme(model.params, scheme, model.config)
    assert trees_equal(unpack_params(packed.params, model.config), stored)
    assert (packed.prefix is None) == (scheme.prefix is None)
    if packed.prefix is not None:
        assert scheme.prefix is not None
        assert jnp.array_equal(packed.prefix.keys, scheme.prefix.keys)


def test_a_prefix_of_other_packed_weights_is_refused(model, tmp_path):
    pack_scheme(tmp_path / "one", model, scheme_of(model, "prefix"))
    pack_scheme(tmp_path / "two", model, replace(scheme_of(model, "mixed")))
    name = "prefix.safetensors"
    (tmp_path / "two" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    with pytest.raises(InputError, match="belongs to another model"):
        load_model(tmp_path / "two")


def test_a_folder_with_files_is_refused_before_the_work(tmp_path):
    refuse_used_folder("pack", tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"`pack` .* exists already"):
        refuse_used_folder("pack", tmp_path)


def test_a_scheme_in_words(model):
    assert "5 % of the weights" in in_words(model.params, scheme_of(model, "protected"))
    assert "% at 16" in in_words(model.params, scheme_of(model, "mixed"))
    assert "prefix of 2 tokens" in in_words(model.params, scheme_of(model, "prefix"))
