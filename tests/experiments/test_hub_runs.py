"""What is done with a model of the hub stays with the commit that it began with."""

import json
import sys
from pathlib import Path

import pytest

from experiments import exp_011
from experiments.command_line import main
from jaxprotect import cli
from jaxprotect.models.hub import load_model
from tests.fake_hub import MAIN, OLDER, contents, fake_hub, repository  # noqa: F401
from tests.runs.test_universe import searched
from tests.tiny import save_tiny_model

NAME = "owner/model"


@pytest.fixture
def move(fake_hub, tmp_path):  # noqa: F811
    """Put a model on the hub; returns what moves its main branch to other weights."""
    models = [
        save_tiny_model(tmp_path / f"model-{seed}", width=16, context=64, seed=seed)
        for seed in range(2)
    ]
    first, second = (contents(Path(model)) for model in models)
    repo = fake_hub.repos[NAME] = repository(first)

    def moves():
        repo["commits"][OLDER] = second
        repo["refs"]["main"] = OLDER

    return moves


def refusal(command, capsys):
    """The line that a command is refused with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        command()
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert stopped.value.code == 2
    return line


def test_a_run_goes_on_with_its_commit_only(move, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    common = ["--model", NAME, "--languages", "eng_Latn", "--draws", "100", "--out", str(folder)]

    def experiment(fraction, *options):
        given = [*common, "--fractions", *fraction, *options]
        monkeypatch.setattr(sys, "argv", ["exp_011", *given])
        main(exp_011.Config, exp_011.run)
        return (folder / "results.jsonl").read_bytes()

    rows = experiment(["0.1"], "--revision", "main")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["model"]["revision"], manifest["config"]["revision"]) == (MAIN, "main")
    move()
    for options in ([], ["--revision", "main"]):
        line = refusal(lambda options=options: experiment(["0.1"], *options), capsys)
        assert f"holds another run; give another folder. model.revision: '{MAIN}' there" in line
        assert f"'{OLDER}' now; model.sha256: " in line
    assert (folder / "results.jsonl").read_bytes() == rows
    assert experiment(["0.1"], "--revision", MAIN) == rows
    # What killed the run may have come before the branch moved.
    (folder / "results.jsonl").write_bytes(rows[: len(rows) // 2])
    assert experiment(["0.1"], "--revision", MAIN) == rows


def test_a_search_is_shown_for_every_name_of_its_commit(move, tmp_path, capsys):
    model = load_model(NAME, revision="main")
    folder = searched(tmp_path / "search", model=model, revision=model.revision)

    def universe(revision):
        given = ["--model", NAME, "--revision", revision, "--minimal-set", str(folder)]
        cli.main(["universe", *given, "--out", str(tmp_path / "universe"), "--json"])
        return json.loads(capsys.readouterr().out)

    assert universe("main") == universe(MAIN)
    move()
    line = refusal(lambda: universe("main"), capsys)
    assert f"not of {NAME} at revision main: it is of {MAIN}" in line
