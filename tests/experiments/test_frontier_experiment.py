"""Exp-020 and `jaxprotect recommend`, end to end on a tiny random model."""

import csv
import json

import pytest

from experiments import exp_020
from experiments.common import Setup
from jaxprotect.cli import main
from jaxprotect.errors import InputError
from jaxprotect.selection.recommendation import Options
from tests.tiny import save_tiny_model

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("shared") / "statistics"


@pytest.mark.slow
def test_every_technique_is_held_to_every_budget(tiny, statistics, tmp_path):
    config = exp_020.Config(
        setup=Setup(model=tiny, languages=LANGUAGES, draws=200, out=tmp_path),
        budgets=("int4-channel",),
        options=Options(
            techniques=("round_to_nearest", "clipped_protection", "cached_prefix"), rounds=1
        ),
        statistics=statistics,
    )
    rows = exp_020.run(config)
    assert all(row["bytes"] <= row["budget_bytes"] for row in rows)
    kinds = {row["kind"] for row in rows}
    assert kinds == {"single", "combined", "recommended"}
    best = min(
        (row for row in rows if row["kind"] != "recommended"),
        key=lambda row: row["tune_worst_relative"],
    )
    (chosen,) = (row for row in rows if row["kind"] == "recommended")
    assert chosen["technique"] == best["technique"]
    plain = next(row for row in rows if row["technique"] == "round_to_nearest")
    assert plain["change"] == 0
    assert len(list(csv.DictReader((tmp_path / "frontier.csv").open()))) == len(rows)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What is the best use of so many bytes?" in page
    assert exp_020.run(config) == rows  # nothing is measured again


@pytest.mark.slow
def test_recommend_packs_what_it_recommends(tiny, statistics, tmp_path, capsys):
    main(
        [
            "recommend",
            "--model",
            tiny,
            "--languages",
            *LANGUAGES,
            "--budget-bytes",
            "60000",
            "--techniques",
            "round_to_nearest",
            "calibrated_ranges",
            "--no-combine",
            "--draws",
            "200",
            "--statistics",
            str(statistics),
            "--pack",
            str(tmp_path / "packed"),
            "--out",
            str(tmp_path / "out"),
            "--json",
        ]
    )
    made = json.loads(capsys.readouterr().out)
    assert made["summary"]["bytes"] <= 60000
    assert (tmp_path / "packed" / "model.safetensors").stat().st_size == made["summary"]["bytes"]
    assert {row["language"] for row in made["languages"]} == set(LANGUAGES)
    assert len(made["tried"]) == 2
    main(["report", str(tmp_path / "out"), "--json"])
    reported = json.loads(capsys.readouterr().out)
    assert {**reported["summary"], **made["summary"]} == reported["summary"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "What each language loses" in page


def test_a_budget_below_the_smallest_file_is_one_line_before_any_work(tiny, tmp_path, capsys):
    statistics = tmp_path / "statistics"
    arguments = ["recommend", "--model", tiny, "--languages", *LANGUAGES]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--budget-bytes", "1000", "--statistics", str(statistics)])
    assert stopped.value.code == 2
    assert not list(statistics.glob("**/*.safetensors"))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: `budget` is 1000 bytes; the smallest possible file, INT2")


def test_budgets_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="`budgets` has 'int9-channel'"):
        exp_020.Config(budgets=("int9-channel",))


def test_what_beats_the_recommendation_is_told():
    rows = [
        {"kind": "recommended", "budget": "a", "worst_relative": 0.2},
        {"kind": "single", "budget": "a", "worst_relative": 0.1},
        {"kind": "single", "budget": "a", "worst_relative": 0.3},
    ]
    assert exp_020.undominated(rows) == [rows[1]]
