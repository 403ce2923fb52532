"""The experiments end to end, on a tiny random checkpoint and three languages."""

import csv
import json
import sys

import jax
import numpy as np
import pytest

from experiments import exp_010, exp_011, exp_012, exp_013, exp_014, quickstart
from experiments.command_line import document, main
from experiments.common import Setup
from jaxprotect.models.config import ModelConfig
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.spec import SEED_SPEC, QuantSpec
from jaxprotect.runs import sweep as sweep_module
from jaxprotect.runs.results import ORIGINAL
from tests.tiny import save_tiny_model

EXPERIMENTS = {m.__name__[-7:]: m for m in (exp_010, exp_011, exp_012, exp_013, exp_014)}
LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random two-layer model with the reference tokenizer."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    return save_tiny_model(path, layers=2, width=16, context=64)


@pytest.fixture
def setup(folder, tmp_path):
    return Setup(
        model=str(folder),
        languages=LANGUAGES,
        draws=200,
        out=tmp_path / "run",
        spec=QuantSpec(bits=3),
    )


def test_quickstart_measures_every_variant_of_every_experiment_once(setup):
    run = quickstart.run(quickstart.Config(setup=setup, random_seeds=1))
    manifest = run.manifest
    assert list(manifest["experiments"]) == list(EXPERIMENTS)
    asked = {name for names in manifest["experiments"].values() for name in names}
    assert sorted(asked) == sorted(run.variants)
    assert len(run.rows) == len(asked) * len(LANGUAGES)
    summary = list(csv.DictReader((run.folder / "summary.csv").open()))
    assert {row["variant"] for row in summary} == asked
    assert (run.folder / "report.html").stat().st_size > 10_000
    assert list((run.folder / "figures").iterdir())

    by_name = {row["variant"]: row for row in run.rows}
    eligible = by_name["none"]["eligible"]
    assert by_name["none"]["protected"] == 0
    assert by_name["magnitude-0.05"]["protected"] == int(0.05 * eligible)
    assert by_name["random-0.05-seed0"]["protected"] == int(0.05 * eligible)
    attention = by_name["attention"]["protected"]
    assert attention == 2 * 4 * 16 * 16
    layers = [by_name[f"attention-layer-{i}"]["protected"] for i in range(2)]
    heads = [by_name[f"head-{i}-{j}"]["protected"] for i in range(2) for j in range(2)]
    assert sum(layers) == sum(heads) == attention
    both = by_name["token_embedding+position_embedding"]["protected"]
    assert both == (6144 + 64) * 16

    # The same again: everything is there, nothing is measured, nothing changes.
    before = (run.folder / "results.jsonl").read_bytes()
    quickstart.run(quickstart.Config(setup=setup, random_seeds=1))
    assert (run.folder / "results.jsonl").read_bytes() == before


def test_json_is_one_document_on_standard_output(setup, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["exp_011.py", "--json"])
    main(exp_011.Config, lambda config: exp_011.run(exp_011.Config(setup=setup, fractions=(0.1,))))
    said = capsys.readouterr()
    rows = json.loads(said.out)["rows"]
    assert [row["variant"] for row in rows] == ["none", "magnitude-0.1"]
    assert "report:" in said.err


@pytest.mark.parametrize(
    ("found", "made"),
    [
        ([{"a": float("nan"), "b": (1, np.float32(0.5))}], {"rows": [{"a": None, "b": [1, 0.5]}]}),
        ([], {"rows": []}),
    ],
)
def test_documents_are_plain_data(found, made):
    assert document(found) == made


def test_a_killed_sweep_resumes_to_the_same_bytes(setup, tmp_path, monkeypatch):
    config = exp_012.Config(setup=setup)
    whole = exp_012.run(config)
    calls = []

    def dies_at_the_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args, **options)

    measure = sweep_module.measure
    monkeypatch.setattr(sweep_module, "measure", dies_at_the_third)
    again = exp_012.Config(setup=Setup(**{**vars(setup), "out": tmp_path / "again"}))
    with pytest.raises(KeyboardInterrupt):
        exp_012.run(again)
    monkeypatch.undo()
    resumed = exp_012.run(again)
    for name in ("results.jsonl", "summary.csv", f"nats/{ORIGINAL}.npy", "nats/layers-1.npy"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_threshold_sweep_compiles_the_quantizer_and_the_model_once(setup, monkeypatch):
    traces = {"quantize": 0}
    original = quantize_leaves

    def counted(*args, **options):
        traces["quantize"] += 1
        return original(*args, **options)

    monkeypatch.setattr(sweep_module, "quantize_tree", jax.jit(counted, static_argnums=(2, 3)))
    exp_011.run(exp_011.Config(setup=setup, fractions=(0.001, 0.01, 0.02, 0.03)))
    assert traces["quantize"] == 2  # without a mask, and with one: thresholds share a program


def test_seed_protocol(setup):
    seed = Setup(**{**vars(setup), "protocol": "seed", "spec": QuantSpec()})
    run = exp_011.run(exp_011.Config(setup=seed, fractions=(0.05,)))
    assert run.manifest["config"]["spec"]["granularity"] == SEED_SPEC.granularity
    rows = {row["variant"]: row for row in run.rows}
    # All that checkpoints name `weight`: matrices, embeddings and norm gains.
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 64) + (6144 + 64) * 16
    assert rows["none"]["eligible"] == matrices + 5 * 16
    assert rows["magnitude-0.05"]["protected"] >= int(0.05 * rows["none"]["eligible"])
    summary = list(csv.DictReader((run.folder / "summary.csv").open()))
    assert {"seed_r1", "seed_r2", "seed_r3"} <= summary[0].keys()
    # Nothing is scored without a token to its left: one token less per sentence.
    prefix = exp_011.run(
        exp_011.Config(
            setup=Setup(**{**vars(setup), "out": setup.out.with_name("prefix")}), fractions=(0.05,)
        )
    )
    for language in LANGUAGES:
        fewer = run.evaluation(ORIGINAL).tokens[language]
        np.testing.assert_array_equal(fewer + 1, prefix.evaluation(ORIGINAL).tokens[language])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_variants_are_named_and_distinct(name, setup):
    module = EXPERIMENTS[name]
    config = ModelConfig(
        family="bloom",
        layers=3,
        width=16,
        heads=2,
        mlp_width=64,
        vocab_size=99,
        context=64,
        positions="alibi",
    )
    model = type("Model", (), {"config": config})
    variants = module.variants(module.Config(setup=setup), model)
    names = [variant.name for variant in variants]
    assert names[0] == "none"
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._+-") for name in names)
    json.dumps([variant.intervention for variant in variants])
    assert not any("position" in name for name in names)  # this model has no position table


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "no/such/folder/at-all"], "no/such/folder"),
        (["--texts", "nowhere"], "nowhere"),
        (["--languages", "xxx_Xxxx"], "xxx_Xxxx"),
        (["--bits", "1"], "`bits` is 1"),
        (["--fractions", "1.5"], "`fraction` is 1.5; allowed is 0 to 1"),
        (["--protocol", "seed", "--bits", "3"], "`protocol` seed fixes the quantizer"),
        (["--reference", "xxx_Xxxx"], "`reference` names xxx_Xxxx"),
        (["--draws", "0"], "`draws` is 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    options, words, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "run"
    given = ["--model", str(folder), "--languages", "eng_Latn", "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", ["exp_011", *given])
    with pytest.raises(SystemExit) as stopped:
        main(exp_011.Config, exp_011.run)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert words in lines[0]
    assert not (out / "results.jsonl").exists()
