"""A masked model through every command: what it can do is done, what it cannot is said."""

import json
import shutil

import jax
import numpy as np
import pytest
from transformers import AutoModelForMaskedLM

from experiments.common import Setup
from experiments.exp_018 import Config as Calibrations
from experiments.exp_018 import run as run_calibrations
from experiments.exp_019 import Config as Prefixes
from experiments.exp_019 import run as run_prefixes
from jaxprotect.cli import main
from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import encode, evaluate
from jaxprotect.evaluation.texts import load_texts
from jaxprotect.models.hub import load_model
from jaxprotect.models.prefill import make_prefix, prefill
from jaxprotect.quantization.packed_params import unpack_params
from jaxprotect.quantization.quantize import quantize
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.packed_files import pack
from jaxprotect.runs.packed_loading import load_packed
from jaxprotect.selection import masks
from jaxprotect.selection.compensated import compensate
from jaxprotect.trees import leaf_paths
from tests.masked import save_masked_model

# Six or seven tokens each: batches of one shape.
LINES = {
    "deu_Latn": ["das ist", "the übers", "ein bad", "las bad"],
    "rus_Cyrl": ["где бег", "аб где", "бег да", "да беда"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "bert"
    return save_masked_model(folder, layers=1, context=15)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("texts")
    for language, lines in LINES.items():
        # Lines differ, so that damages vary between sentences.
        numbered = [f"{lines[i % 4]} {'abcde'[i % 5]}" for i in range(15)]
        (folder / f"{language}.txt").write_text("\n".join(numbered), "utf-8")
    return str(folder)


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_census(model, capsys):
    main(["census", "--model", model, "--json"])
    rows = {
        row["part"]: row for row in json.loads(capsys.readouterr().out)["rows"] if not row["layer"]
    }
    parameters = sum(w.numel() for w in AutoModelForMaskedLM.from_pretrained(model).parameters())
    assert rows["model"]["total"] == parameters
    assert rows["head"]["total"] == 12 * 12 + 12 + load_model(model).config.vocab_size


def test_a_tokenizer_of_older_checkpoints_is_its_vocabulary_alone(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "older")
    expected = load_model(folder).tokenizer
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"has no tokenizer: .* allowed .*, or `vocab.txt`"):
        load_model(folder)
    vocabulary = expected.get_vocab()
    pieces = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    (folder / "vocab.txt").write_text(pieces + "\n", "utf-8")
    found = load_model(folder).tokenizer
    for text in (*LINES["deu_Latn"], *LINES["rus_Cyrl"]):
        assert found(text)["input_ids"] == expected(text)["input_ids"]


def test_evaluate(model, texts, capsys):
    base = ["evaluate", "--model", model, "--texts", texts, "--split", "all", "--draws", "200"]
    found = {}
    for masking in ("token", "word"):
        main([*base, "--masking", masking, "--json"])
        found[masking] = {row["language"]: row for row in json.loads(capsys.readouterr().out)}
        for row in found[masking].values():
            assert row["nats_low"] < row["nats"] < row["nats_high"]
    assert found["token"]["deu_Latn"]["nats"] != found["word"]["deu_Latn"]["nats"]
    main([*base, "--quantize", "--bits", "3", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert made["summary"]["worst_language"] in LINES
    assert all(row["damage_low"] <= row["damage_high"] for row in made["languages"])
    line = refused(capsys, *base, "--start", "shift")
    assert "`start` 'shift', the seed protocol's, needs a causal model; the model is of" in line


def test_a_packed_model_scores_texts_as_the_quantized_one(model, texts, tmp_path):
    loaded, some = load_model(model), load_texts(texts, split="test")
    mask = masks.by_magnitude(loaded.params, fraction=0.1)
    spec = QuantSpec(bits=3, protected_dtype="float16")
    pack(tmp_path / "packed", loaded, mask, spec)
    dense = quantize(loaded.params, mask, spec, loaded.config)
    expected = evaluate(loaded, some, dense).nats
    for language, nats in evaluate(load_packed(tmp_path / "packed"), some).nats.items():
        np.testing.assert_allclose(nats, expected[language], rtol=1e-5)


@pytest.mark.slow
def test_from_sensitivity_to_a_packed_model(model, texts, tmp_path, capsys):
    common = ["--model", model, "--texts", texts]
    main(["sensitivity", *common, "--out", str(tmp_path / "map"), "--json"])
    assert {row["language"] for row in json.loads(capsys.readouterr().out)["languages"]} == {*LINES}
    search = [
        "--relative",
        "0.06",
        "--bits",
        "2",
        "--statistics",
        str(tmp_path / "map" / "statistics"),
    ]
    main(["minimal-set", *common, *search, "--out", str(tmp_path / "found"), "--json"])
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert 0 < summary["fraction"] <= 1
    mask = tmp_path / "found" / "mask.npz"
    main(["pack", "--model", model, "--mask", str(mask), "--out", str(tmp_path / "p"), "--json"])
    packed = json.loads(capsys.readouterr().out)
    assert packed["predicted"] == packed["written"]
    main(["evaluate", *common, "--model", str(tmp_path / "p"), "--split", "test", "--json"])
    assert len(json.loads(capsys.readouterr().out)) == len(LINES)
    main(["export", "--model", str(tmp_path / "p"), "--out", str(tmp_path / "hf")])
    capsys.readouterr()
    dense = unpack_params((loaded := load_packed(tmp_path / "p")).params, loaded.config)
    exported = load_model(tmp_path / "hf")
    for path, leaf in leaf_paths(exported.params).items():
        np.testing.assert_array_equal(leaf, leaf_paths(dense)[path], err_msg=path)


@pytest.mark.slow
def test_recommend_leaves_out_what_needs_a_causal_model(model, texts, tmp_path, capsys):
    common = ["recommend", "--budget-bytes", "9000", "--model", model, "--texts", texts]
    common += ["--statistics", str(tmp_path / "statistics"), "--rounds", "1", "--techniques"]
    main([*common, "round_to_nearest", "calibrated_ranges", "cached_prefix", "--json"])
    tried = {row["technique"] for row in json.loads(capsys.readouterr().out)["tried"]}
    assert tried == {"round_to_nearest", "calibrated_ranges"}
    line = refused(capsys, *common, "cached_prefix")
    assert "`techniques` cached_prefix needs a causal model" in line


def test_what_runs_from_left_to_right_is_refused(model, texts, tmp_path):
    setup = Setup(model=model, texts=texts, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"a cached prefix needs a causal model; .* family bert"):
        run_prefixes(Prefixes(setup=setup))
    with pytest.raises(InputError, match=r"error compensation, .* needs a causal model"):
        run_calibrations(Calibrations(setup=setup))
    loaded = load_model(model)
    with pytest.raises(InputError, match="a cached prefix needs a causal model"):
        make_prefix(loaded.params, [1], loaded.config)
    with pytest.raises(InputError, match="a cached prefix needs a causal model"):
        prefill(loaded.params, jax.numpy.ones((1, 2), int), loaded.config)
    encoded = encode(loaded, load_texts(texts))
    with pytest.raises(InputError, match="error compensation needs a causal model"):
        compensate(loaded.params, masks.none(loaded.params), QuantSpec(), loaded.config, encoded)


def test_masks_protect_what_they_protect_in_other_models(model):
    loaded = load_model(model)
    params, config = loaded.params, loaded.config
    original = leaf_paths(params)

    def under(mask: dict) -> dict:
        return leaf_paths(quantize(params, mask, QuantSpec(bits=3, scale_from="all"), config))

    plain = under(masks.none(params))
    whole = {
        "": masks.everything(params),
        "blocks/": masks.layers(params, [0]),
        "head/": masks.components(params, ["head"]),
        "embed/tokens": masks.components(params, ["token_embedding"]),
    }
    for start, mask in whole.items():
        for path, leaf in under(mask).items():
            expected = original[path] if path.startswith(start) else plain[path]
            np.testing.assert_array_equal(leaf, expected, err_msg=path)
    head = under(masks.heads(params, {0: [1]}))
    for name, axis in {"q": 2, "k": 2, "v": 2, "out": 1}.items():
        path = f"blocks/attention/{name}/kernel"
        for number in range(3):
            expected = (original if number == 1 else plain)[path]
            got = np.asarray(head[path]).take(number, axis)
            np.testing.assert_array_equal(
                got, np.asarray(expected).take(number, axis), err_msg=path
            )
