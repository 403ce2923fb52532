"""Exp-017 end to end on a tiny checkpoint and two languages."""

import csv
from dataclasses import replace

import pytest

from experiments import exp_017
from experiments.common import Setup
from experiments.exp_017_page import METHOD_NAMES, write_precision
from experiments.precision_choices import METHODS
from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import REFERENCE_FOLDER, load_model
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.precision_figures import damage_over_bytes
from jaxprotect.selection import masks
from tests.tiny import random_params

LANGUAGES = ("eng_Latn", "heb_Hebr")
SPEC = QuantSpec(protected_dtype="float16")


@pytest.fixture
def setup(tmp_path):
    config = ModelConfig(
        family="gpt2", layers=1, width=8, heads=2, mlp_width=32, vocab_size=6144, context=128
    )
    path = tmp_path / "tiny"
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(path, random_params(config), config, tokenizer_file=tokenizer)
    return Setup(model=str(path), languages=LANGUAGES, draws=200, out=tmp_path / "run", spec=SPEC)


@pytest.mark.slow
def test_every_method_keeps_to_the_bytes_of_its_budget(setup):
    config = exp_017.Config(setup=setup, averages=(2.5,), levels=("tensor", "channel"), rounds=1)
    rows = exp_017.run(config)
    assert {row["method"] for row in rows} == set(METHODS)
    model = load_model(setup.model)
    nothing = masks.none(model.params)
    for row in rows:
        assert row["bytes"] <= row["budget"]
        uniform = next(r for r in rows if r["average"] == row["average"])
        assert row["uniform_relative"] == uniform["worst_relative"]
        assert row["change_low"] <= row["change"] <= row["change_high"]
        if row["method"] == "mixed":
            bits = exp_017.load_bits(setup.out / "bits" / f"{row['variant']}.npz")
            assert protected_size(model.params, nothing, SPEC, bits).total == row["bytes"]
        if row["method"] in ("weights", "fp16", "int8"):
            assert row["protected"] > 0
    assert rows[0]["bytes"] == protected_size(model.params, nothing, replace(SPEC, bits=2)).total
    written = list(csv.DictReader((setup.out / "precision.csv").open()))
    assert [row["variant"] for row in written] == [row["variant"] for row in rows]
    page = (setup.out / "report.html").read_text()
    assert all(METHOD_NAMES[row["method"]] in page for row in rows)
    assert (setup.out / "precision.png").exists()
    assert (setup.out / "bits-2.5-mixed-channel.png").exists()

    before = (setup.out / "run" / "results.jsonl").read_bytes()
    assert exp_017.run(config) == rows
    assert (setup.out / "run" / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"averages": (1.5,)}, "`averages` has 1.5; allowed are 2 to 8"),
        ({"levels": ("row",)}, "`levels` has 'row'"),
        ({"protected_levels": ("row",)}, "`protected_levels` has 'row'"),
        ({"widths": (2, 9)}, "`widths` is"),
        ({"widths": (2, 4)}, "the comparison needs all of"),
        ({"setup": Setup(spec=QuantSpec(granularity="tensor"))}, "`granularity` is tensor"),
        ({"setup": Setup(protocol="seed")}, "`granularity` is tensor"),
    ],
)
def test_options_that_do_not_exist_are_named(options, message):
    with pytest.raises(InputError, match=message):
        exp_017.Config(**options)


def test_the_page_names_the_worst_language(tmp_path):
    row = {"average": 3, "label": METHOD_NAMES["uniform"], "bytes": 2048, "protected": 0}
    row |= {"worst_relative": 0.1, "worst_language": "heb_Hebr", "ratio": None}
    row |= {"change": 0.0, "change_low": 0.0, "change_high": 0.0}
    curves = damage_over_bytes(tmp_path / "curves.png", [row])
    path = write_precision(tmp_path / "page.html", "made-up", "INT3 per channel", [row], curves, [])
    page = path.read_text(encoding="utf-8")
    assert "Hebrew" in page
    assert "heb_Hebr" not in page
