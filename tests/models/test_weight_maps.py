"""Layouts: inverse, complete, and what the files of torch and Flax really hold."""

import hashlib

import numpy as np
import pytest
from flax import serialization
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.layouts import from_stored, stored_shape, to_stored
from jaxprotect.models.tensor_names import accepted_names, written_names
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import EVERY, GPT2, MASKED, NEOX, assert_same
from tests.tiny import random_params


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("flax", [False, True])
def test_layouts_are_inverse_and_cover_each_weight_once(name, flax):
    config = EVERY[name]
    leaves = leaf_paths(parameter_shapes(config))
    counts = dict.fromkeys(leaves, 0)
    for slot in {slot for slot in accepted_names(config, flax=flax).values() if slot is not None}:
        tensor = np.arange(np.prod(stored_shape(slot, config))).reshape(stored_shape(slot, config))
        values = from_stored(tensor, slot, config)
        np.testing.assert_array_equal(to_stored(values, slot, config), tensor)
        if slot.leaf in leaves:
            shape = leaves[slot.leaf].shape
            assert values.shape == (shape if slot.layer is None else shape[1:])
            counts[slot.leaf] += values.size
        else:
            assert (slot.leaf, config.tied_head) == ("head/kernel", True)
    assert counts == {path: leaf.size for path, leaf in leaves.items()}


def test_fused_projections_are_split_by_part_or_by_head(tmp_path):
    width, heads, size = 6, 3, 2
    for config, stored in ((GPT2, "transformer.h.1.attn.c_attn"), (NEOX, "query_key_value")):
        save_model_folder(tmp_path / config.family, random_params(config), config)
        tensors = load_file(tmp_path / config.family / "model.safetensors")
        name = next(n for n in tensors if stored in n and n.endswith("weight") and ".1." in n)
        kernel = np.asarray(
            load_params(tmp_path / config.family, config)[0]["blocks"]["attention"]["qkv"]["kernel"]
        )[1]
        for part in range(3):
            for head in range(heads):
                by_part, by_head = part * width + head * size, (head * 3 + part) * size
                columns = (
                    tensors[name][:, by_part : by_part + size]
                    if config is GPT2
                    else tensors[name][by_head : by_head + size].T
                )
                np.testing.assert_array_equal(kernel[:, part, head], columns)


def to_flax(folder, more, *, without=""):
    """Replace a folder's safetensors by Flax's file; `more` are tensors under Flax's names."""
    endings = {"embed": "embedding", "ln": "scale", "norm": "scale", "wte": "embedding"}
    flat = {tuple(name.split(".")): tensor for name, tensor in more.items()}
    for torch_name, tensor in load_file(folder / "model.safetensors").items():
        module, ending = torch_name.rsplit(".", 1)
        if ending == "weight":
            last = module.split(".")[-1].lower()
            ending = next((e for key, e in endings.items() if key in last), "kernel")
            ending = "embedding" if last == "wpe" else ending
        path = module.removeprefix(without).split(".")
        flat[(*path, ending)] = tensor.T if ending == "kernel" else tensor
    (folder / "model.safetensors").unlink()
    data = serialization.msgpack_serialize(unflatten_dict(flat))
    (folder / "flax_model.msgpack").write_bytes(data)
    return data


@pytest.mark.parametrize("name", ["gpt2", "gpt2 untied", "opt"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_flax_files_store_kernels_the_other_way_round(tmp_path, name, prefixed):
    config = EVERY[name]
    params = random_params(config)
    save_model_folder(tmp_path, params, config)
    prefix = "transformer." if config.family == "gpt2" else "model.decoder."
    data = to_flax(tmp_path, {}, without="" if prefixed else prefix)
    loaded, sha256 = load_params(tmp_path, config)
    assert_same(loaded, params)
    assert sha256 == hashlib.sha256(data).hexdigest()

    (tmp_path / "flax_model.msgpack").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged or no Flax msgpack file"):
        load_params(tmp_path, config)
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize({"a": 3}))
    with pytest.raises(InputError, match="`a` is int; allowed: an array"):
        load_params(tmp_path, config)


def test_what_no_masked_token_goes_through_is_skipped_in_flax_files_too(tmp_path):
    config = MASKED["bert"]
    params = random_params(config)
    save_model_folder(tmp_path, params, config)
    extra = {"bert.pooler.dense": config.width, "cls.seq_relationship": 2}
    more = {f"{name}.bias": np.zeros(size) for name, size in extra.items()}
    more |= {f"{name}.kernel": np.zeros((config.width, size)) for name, size in extra.items()}
    to_flax(tmp_path, more)
    assert_same(load_params(tmp_path, config)[0], params)
    assert "pooler.dense.kernel" in accepted_names(config, flax=True)
    assert "pooler.dense.kernel" not in accepted_names(config)


def test_written_names_are_accepted_names():
    for config in EVERY.values():
        accepted = accepted_names(config)
        assert all(accepted[name] == slot for name, slot in written_names(config).items())
