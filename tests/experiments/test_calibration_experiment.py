"""Exp-018 end to end, on a tiny checkpoint and three languages."""

import csv
from dataclasses import replace

import pytest

from experiments import exp_018
from experiments.calibrations import METHODS
from experiments.common import Setup
from experiments.exp_018_tables import own_against_others
from jaxprotect.errors import InputError
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import REFERENCE_FOLDER
from jaxprotect.runs.calibration_figures import calibration_dots, calibration_map
from tests.tiny import random_params

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")


@pytest.fixture
def config(tmp_path):
    """A random one-layer model with the reference tokenizer, and few methods."""
    small = ModelConfig(
        family="gpt2", layers=1, width=8, heads=2, mlp_width=32, vocab_size=6144, context=128
    )
    folder = tmp_path / "tiny"
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(folder, random_params(small), small, tokenizer_file=tokenizer)
    return exp_018.Config(
        setup=Setup(model=str(folder), languages=LANGUAGES, draws=200, out=tmp_path / "run"),
        quantizers=("int3-channel",),
        methods=("mse", "learned_worst", "gptq_mse"),
        matrix_methods=("gptq_mse",),
        steps=2,
    )


def rows_of(path) -> list[dict]:
    return list(csv.DictReader(path.open()))


@pytest.mark.slow
def test_every_method_costs_the_same_and_the_run_resumes(config):
    out = config.setup.out
    run = exp_018.run(config)
    assert len({row["bytes"] for row in run.rows}) == 1
    rows = rows_of(out / "methods.csv")
    assert [row["method"] for row in rows] == ["absmax", *config.methods]
    assert float(rows[0]["changed"]) == 0 == float(rows[0]["change"])
    assert all(float(row["changed"]) > 0 for row in rows[1:])
    assert all(
        float(row["change_low"]) <= float(row["change"]) <= float(row["change_high"])
        for row in rows[1:]
    )
    cells = rows_of(out / "languages.csv")
    calibrated = list(dict.fromkeys(row["calibrated_on"] for row in cells))
    assert calibrated == [*LANGUAGES, "all languages"]
    assert {float(r["difference"]) for r in cells if r["calibrated_on"] == calibrated[-1]} == {0.0}
    assert len({row["relative"] for row in cells if row["language"] == "heb_Hebr"}) == 4
    assert (out / "report.html").stat().st_size > 10_000

    before = (out / "run" / "results.jsonl").read_bytes()
    exp_018.run(config)
    assert (out / "run" / "results.jsonl").read_bytes() == before
    with pytest.raises(InputError, match=r"protect: 0.0 there, 0.02 now"):
        exp_018.run(replace(config, protect=0.02))


@pytest.mark.slow
def test_calibration_combines_with_protection(config, tmp_path):
    config = replace(
        config,
        setup=replace(config.setup, out=tmp_path / "kept"),
        methods=("fisher_mse_minimax", "gptq_absmax"),
        matrix=(),
        protect=0.02,
    )
    run = exp_018.run(config)
    for row in run.rows:
        assert row["protected"] == int(0.02 * row["eligible"])
        assert row["overhead_bytes"] > 0
    assert not (tmp_path / "kept" / "languages.csv").exists()


def cells_of(matrix: dict) -> list[dict]:
    return [
        {"quantizer": "q", "method": "m", "calibrated_on": a, "language": b, "relative": value}
        for a, row in matrix.items()
        for b, value in row.items()
    ]


MATRIX = {
    "eng_Latn": {"eng_Latn": 0.01, "heb_Hebr": 0.08},
    "heb_Hebr": {"eng_Latn": 0.03, "heb_Hebr": 0.04},
    "all languages": {"eng_Latn": 0.02, "heb_Hebr": 0.03},
}


def test_own_and_other_calibrations_by_hand():
    found = own_against_others(cells_of(MATRIX))
    assert found["own"] == pytest.approx(0.025)
    assert found["others"] == pytest.approx(0.055)
    assert found["all"] == pytest.approx(0.025)
    assert found["own_is_best"] == 2
    assert (found["best_single"], found["worst_of_best_single"]) == ("heb_Hebr", 0.04)
    assert (found["worst_single"], found["worst_of_worst_single"]) == ("eng_Latn", 0.08)


def test_the_map_says_what_it_shows(tmp_path):
    drawing = calibration_map(tmp_path / "map.png", cells_of(MATRIX), label="GPTQ")
    assert "its own calibration is the best of the single ones for 2 of 2" in drawing.alt
    assert "2.50 % on average" in drawing.alt
    assert (tmp_path / "map.png").read_bytes() == drawing.png
    alone = [cell for cell in cells_of(MATRIX) if cell["language"] == "eng_Latn"]
    with pytest.raises(InputError, match="`cells` has 1 languages"):
        calibration_map(tmp_path / "map.png", alone, label="GPTQ")


def test_the_dots_name_the_best_method(tmp_path):
    rows = [
        {"quantizer": "q", "name": name, "worst": w, "worst_low": w / 2, "worst_high": 2 * w,
         "mean": w / 2}
        for name, w in (("absmax", 0.1), ("MSE", 0.05))
    ]  # fmt: skip
    drawing = calibration_dots(tmp_path / "dots.png", rows)
    assert "q: 10.0 % with absmax, least with MSE (5.00 %)" in drawing.alt
    with pytest.raises(InputError, match="`rows` is empty"):
        calibration_dots(tmp_path / "dots.png", [])


def test_only_methods_that_read_text_can_be_calibrated_on_a_language():
    reading = {name for name, method in METHODS.items() if method.reads_text}
    assert set(METHODS) - reading == {"absmax", "percentile", "mse", "aciq"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantizers": ("int9",)}, "`quantizers` has 'int9'"),
        ({"methods": ("magic",)}, "`methods` has 'magic'"),
        ({"matrix": ("int2-channel",)}, "`matrix` has 'int2-channel'"),
        ({"matrix_methods": ("mse",)}, "`matrix_methods` has 'mse'"),
        ({"protect": 1.5}, "`fraction` is 1.5"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        exp_018.Config(**options)
