"""Weights that stay in their files give the same nats, bit for bit, in far less memory."""

import threading
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.compilations import compilations
from benchmarks.memory import answer_of
from jaxprotect.counting import order_keys
from jaxprotect.errors import InputError
from jaxprotect.evaluation import streamed as streamed_module
from jaxprotect.evaluation.evaluate import encode, evaluate
from jaxprotect.evaluation.streamed import evaluate_encoded_streamed, evaluate_streamed
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models import stored_model as stored_module
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.hub import REFERENCE_FOLDER, load_model
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.stored_model import blocks_in_turn, read_stored
from jaxprotect.quantization.quantize import quantize
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensorwise import tensors_of
from jaxprotect.runs.stored_loading import open_model
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths, map_leaves
from tests.masked import save_masked_model
from tests.tiny import CONFIG, SEPARATE, random_params, save_tiny_model

TEXTS = Texts(
    sentences={"deu_Latn": ("ein haus", "der hund"), "eng_Latn": ("a house", "the dog")},
    ids=(1, 2),
    source="test",
)
CHANNEL = QuantSpec(bits=4)
GROUP = QuantSpec(bits=4, granularity="group", group_size=16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A causal model with a tied head, one with its own, and a masked one; of three layers."""
    root = tmp_path_factory.mktemp("models")
    own_head = replace(SEPARATE, layers=3, vocab_size=6144)
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(root / "own", random_params(own_head), own_head, tokenizer_file=tokenizer)
    save_tiny_model(root / "tied", layers=3)
    save_masked_model(root / "masked", layers=3)
    return root


@pytest.fixture(scope="module")
def tied(folders):
    """The same checkpoint in memory and in its files."""
    return load_model(folders / "tied"), open_model(folders / "tied")


def assert_same(found, wanted):
    assert found.nats.keys() == wanted.nats.keys()
    for language, nats in wanted.nats.items():
        np.testing.assert_array_equal(found.nats[language], nats, err_msg=language)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("tied", None),
        ("tied", CHANNEL),
        pytest.param("own", GROUP, marks=pytest.mark.slow),
        pytest.param("masked", CHANNEL, marks=pytest.mark.slow),
    ],
)
def test_nats_are_those_of_weights_in_memory(folders, name, spec):
    model, stored = load_model(folders / name), open_model(folders / name)
    if spec is None:
        assert_same(evaluate_streamed(stored, TEXTS), evaluate(model, TEXTS))
        return
    cut = masks.magnitude_cut(stored, fraction=0.05)
    mask = masks.by_magnitude(model.params, fraction=0.05)
    wanted = evaluate(model, TEXTS, quantize(model.params, mask, spec, model.config))
    assert_same(evaluate_streamed(stored, TEXTS, spec=spec, mask=cut), wanted)


def test_masks_and_prefixes_are_taken_too(tied):
    model, stored = tied
    mask = masks.layers(model.params, [1])
    assert_same(
        evaluate_streamed(stored, TEXTS, spec=CHANNEL, mask=mask),
        evaluate(model, TEXTS, quantize(model.params, mask, CHANNEL, model.config)),
    )
    prefix = make_prefix(model.params, [5, 6], model.config)
    assert_same(
        evaluate_streamed(stored, TEXTS, prefix=prefix), evaluate(model, TEXTS, prefix=prefix)
    )


def test_more_texts_than_may_wait_read_the_blocks_again(tied, monkeypatch):
    _, stored = tied
    encoded = encode(stored, TEXTS, batch_tokens=17)
    assert len(encoded.batches) > 1
    wanted = evaluate_encoded_streamed(stored, encoded)
    reads = []
    real = stored_module.read_block

    def counted(model, layer, as_kept):
        reads.append(layer)
        return real(model, layer, as_kept)

    monkeypatch.setattr(stored_module, "read_block", counted)
    monkeypatch.setattr(streamed_module, "STREAMS", 1)
    assert_same(evaluate_encoded_streamed(stored, encoded), wanted)
    assert reads == [0, 1, 2] * len(encoded.batches)


@pytest.fixture(scope="module")
def few_values(tmp_path_factory):
    """Weights of which many are equal to any k-th, across layers and leaves; and their model."""
    config = replace(CONFIG, vocab_size=6144)
    params = map_leaves(lambda path, leaf: jnp.round(4 * leaf) / 4, random_params(config))
    folder = tmp_path_factory.mktemp("models") / "few"
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(folder, params, config, tokenizer_file=tokenizer)
    return params, open_model(folder)


@pytest.mark.parametrize("count", [0, 1, 90_000])
def test_the_cut_is_the_mask_by_magnitude(few_values, count):
    params, stored = few_values
    cut = masks.magnitude_cut(stored, count=count, eligible="everything")
    mask = leaf_paths(masks.by_magnitude(params, count=count, eligible="everything"))
    chosen = 0
    for name, (path, layer, shape) in tensors_of(stored.config).items():
        keys = order_keys(np.abs(read_stored(stored, path, layer)))
        equal = keys == int(cut.key)
        rank = np.cumsum(equal).reshape(keys.shape)
        found = (keys > int(cut.key)) | (equal & (rank <= int(cut.ties[name])))
        wanted = np.broadcast_to(mask[path], shape)
        wanted = wanted if layer is None else wanted[layer]
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        chosen += int(found.sum())
    assert chosen == count


def test_everything_compiles_once_and_not_by_layer(tmp_path):
    config = replace(CONFIG, layers=5, width=24, vocab_size=6144)
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(tmp_path / "m", random_params(config), config, tokenizer_file=tokenizer)
    stored = open_model(tmp_path / "m")
    cut = masks.magnitude_cut(stored, fraction=0.1)
    matrices = [path for path in leaf_paths(random_params(config)) if path.endswith("kernel")]
    with compilations("next_stream") as blocks, compilations("_above_cut") as leaves:
        evaluate_streamed(stored, TEXTS, spec=CHANNEL, mask=cut)
    assert blocks.count == len(encode(stored, TEXTS).shapes)
    assert leaves.count == len(matrices) + 2  # and two embeddings


def test_the_next_block_is_read_while_one_is_used_and_no_more(tied, monkeypatch):
    _, stored = tied
    started = {layer: threading.Event() for layer in range(3)}
    monkeypatch.setattr(
        stored_module, "read_block", lambda model, layer, as_kept: started[layer].set()
    )
    for layer, _ in blocks_in_turn(stored, lambda path, layer, leaf: leaf):
        if layer + 1 < 3:
            assert started[layer + 1].wait(timeout=30)
        assert not any(started[later].is_set() for later in range(layer + 2, 3))


def test_bad_input(folders, tied):
    model, stored = tied
    with pytest.raises(InputError, match="`mask` is given without `spec`"):
        evaluate_streamed(stored, TEXTS, mask=masks.none(model.params))
    other = masks.magnitude_cut(open_model(folders / "masked"), fraction=0.1)
    with pytest.raises(InputError, match="`mask` is a cut of another model"):
        evaluate_streamed(stored, TEXTS, spec=CHANNEL, mask=other)
    with pytest.raises(InputError, match="`mask` and the model differ in the leaves"):
        evaluate_streamed(stored, TEXTS, spec=CHANNEL, mask={})
    with pytest.raises(InputError, match=r"`spec\.ranges` is 'learned', which needs data"):
        evaluate_streamed(stored, TEXTS, spec=QuantSpec(ranges="learned"))
    with pytest.raises(InputError, match="`fraction` is 2"):
        masks.magnitude_cut(stored, fraction=2.0)


def test_files_that_change_while_they_are_open(tmp_path):
    save_tiny_model(tmp_path / "gone")
    gone = open_model(tmp_path / "gone")
    (tmp_path / "gone" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="gone` has changed since it was opened") as refused:
        evaluate_streamed(gone, TEXTS)
    assert "\n" not in str(refused.value)
    (tmp_path / "gone" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has changed since it was opened"):
        masks.magnitude_cut(gone, fraction=0.1)


@pytest.mark.slow
def test_memory_is_bounded_by_blocks_and_not_by_the_model(tmp_path):
    child, folder = "benchmarks.streamed_weights_child", str(tmp_path / "deep")
    weights = answer_of(child, "write", folder)["bytes"]
    found = answer_of(child, "files", folder, "quantize")
    # 0.46 of them were measured, more than half of it Python, JAX and the compiler.
    assert found["peak"] < 0.65 * weights
