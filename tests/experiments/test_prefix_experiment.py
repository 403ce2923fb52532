"""Exp-019 end to end, on a tiny checkpoint and three languages."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments import exp_019
from experiments.common import Setup
from experiments.prefix_variants import plan
from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import REFERENCE_FOLDER, load_model
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.prefix_files import load_prefix
from jaxprotect.runs.recovery_figure import recovery_dots
from jaxprotect.runs.results import read_run
from jaxprotect.selection.prefix_learning import PrefixLearning
from tests.tiny import random_params

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")


@pytest.fixture
def setup(tmp_path):
    """A random one-layer model with the reference tokenizer."""
    config = ModelConfig(
        family="gpt2", layers=1, width=8, heads=2, mlp_width=32, vocab_size=6144, context=128
    )
    folder, tokenizer = tmp_path / "tiny", REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(folder, random_params(config), config, tokenizer_file=tokenizer)
    return Setup(model=str(folder), languages=LANGUAGES, draws=200, out=tmp_path / "run")


def test_plans_measure_controls_first():
    variants = plan(("int4-channel", "int3-channel"), (1, 2), (1, 4))
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names) == 2 + 2 * (2 + 2 * 2 + 2 * 3)
    for i, variant in enumerate(variants):
        if variant.control is not None:
            assert variant.control in names[:i]
            control = variants[names.index(variant.control)]
            assert control.weights == "original"
            assert control.positions == variant.positions
        if variant.weights != "original":
            assert variant.weights in names[: i + 1]


@pytest.mark.slow
def test_exp_019_reports_every_prefix_and_resumes(setup):
    config = exp_019.Config(
        setup=setup,
        quantizers=("int3-channel",),
        chosen=(1,),
        learned=(2,),
        candidates=1,
        choose_sentences=3,
        learning=PrefixLearning(steps=3, batch_rows=8),
    )
    rows = {row["variant"]: row for row in exp_019.run(config)}
    assert list(rows) == [v.name for v in plan(("int3-channel",), (1,), (2,))]
    # (2 L P H K + D) values of two bytes
    for name, positions in (("start", 1), ("chosen-1", 2), ("learned-2", 2), ("adapted-2", 2)):
        row = rows[f"int3-channel--{name}"]
        assert row["positions"] == positions
        assert row["overhead_bytes"] == 2 * (2 * positions * 8 + 8)
        assert row["bytes"] == rows["int3-channel"]["bytes"] + row["overhead_bytes"]
    run = read_run(setup.out)
    base, plain = run.evaluation("original"), run.evaluation("int3-channel")
    treated = run.evaluation("int3-channel--learned-2")
    control = run.evaluation("original--learned-2")
    for row in run.rows:
        if row["variant"] != "int3-channel--learned-2":
            continue
        name = row["language"]
        undone = (plain.nats[name] - treated.nats[name]).mean()
        adapted = (base.nats[name] - control.nats[name]).mean()
        assert row["recovered"] == pytest.approx(undone)
        assert row["net"] == pytest.approx(undone - adapted)
        assert row["nats_per_byte"] == pytest.approx(undone / row["overhead_bytes"])
    model = load_model(setup.model)
    chosen = load_prefix(setup.out / "prefixes" / "int3-channel--chosen-1.safetensors", model)
    assert len(chosen.tokens) == 2
    assert 0 in chosen.tokens  # the start token
    assert {row["variant"] for row in csv.DictReader((setup.out / "prefixes.csv").open())} == set(
        rows
    )
    assert (setup.out / "report.html").stat().st_size > 10_000
    assert (setup.out / "recovery.png").exists()

    # The last variant lost: it is measured again, from the prefixes on disk, to the same bytes.
    results = setup.out / "results.jsonl"
    before = results.read_bytes()
    results.write_bytes(b"".join(before.splitlines(keepends=True)[: -len(LANGUAGES)]))
    exp_019.run(config)
    assert results.read_bytes() == before
    with pytest.raises(InputError, match="holds another run"):
        exp_019.run(replace(config, candidates=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantizers": ("int9",)}, "`quantizers` has 'int9'"),
        ({"chosen": (0,)}, "`chosen` has 0"),
        ({"learned": (2, -1)}, "`learned` has -1"),
        ({"candidates": 0}, "`candidates` is 0"),
        ({"choose_sentences": 0}, "`choose_sentences` is 0"),
        ({"objective": "median"}, "`objective` is 'median'"),
        ({"setup": Setup(protocol="seed")}, "`protocol` is 'seed'"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        exp_019.Config(**options)


def test_prefixes_longer_than_the_context_are_refused(setup):
    with pytest.raises(InputError, match=r"`prefix` has 128 tokens; allowed are 1 to 127"):
        exp_019.run(exp_019.Config(setup=setup, learned=(128,)))


def dots(**changes):
    row = {"quantizer": "q", "treatment": "t", "language": "eng_Latn"}
    return row | {"share": 0.25, "share_low": 0.1, "share_high": 0.4} | changes


def test_the_figure_tells_its_extremes_and_skips_what_is_undefined(tmp_path):
    rows = [
        dots(),
        dots(language="heb_Hebr", share=-0.5, share_low=None, share_high=None),
        dots(treatment="u", share=None, share_low=None, share_high=None),
    ]
    drawing = recovery_dots(tmp_path / "a.png", rows, title="How much?", caption="Dots.")
    assert isinstance(drawing, Drawing)
    assert "q: t −50.0 % to 25.0 %" in drawing.alt
    assert " u " not in drawing.alt
    assert (tmp_path / "a.png").read_bytes() == drawing.png
    only = recovery_dots(tmp_path / "b.png", rows[2:], title="How much?", caption="Dots.")
    assert "no damage to speak of" in only.alt


def test_figures_of_nothing_or_of_too_much_are_refused(tmp_path):
    with pytest.raises(InputError, match="`rows` is empty"):
        recovery_dots(tmp_path / "a.png", [], title="", caption="")
    rows = [dots(treatment=str(i)) for i in np.arange(7)]
    with pytest.raises(InputError, match="`rows` has 7 treatments; allowed are 6"):
        recovery_dots(tmp_path / "a.png", rows, title="", caption="")
