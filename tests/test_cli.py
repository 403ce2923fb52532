"""The command line end to end, on a tiny random checkpoint: output, JSON, errors in one line."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import serialization
from huggingface_hub import constants

from jaxprotect.cli import main
from jaxprotect.models import hub_listing
from jaxprotect.models.hub import load_model
from jaxprotect.runs import stored_loading
from jaxprotect.runs.mask_files import load_mask, save_mask
from jaxprotect.selection import masks
from tests.hub_server import reached
from tests.models import listing_server
from tests.tiny import save_tiny_model

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random one-layer model with the reference tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def mapped(tiny, tmp_path_factory):
    """A folder that `sensitivity` has filled."""
    out = tmp_path_factory.mktemp("runs") / "sensitivity"
    main(["sensitivity", "--model", tiny, "--languages", *LANGUAGES, "--out", str(out)])
    return out


def refused(capsys, *arguments):
    """The one line that bad input prints."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert captured.out == ""
    return lines[-1]


def test_without_torch_nothing_is_said_about_it():
    program = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
import jaxprotect.models.hub
from transformers import is_torch_available
assert not is_torch_available()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_census(capsys):
    main(["census", "--model", "gpt2", "--brief"])
    assert "124,439,808" in capsys.readouterr().out
    main(["census", "--model", "gpt2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["eligible"]["weights"] == 124_337_664


def test_universe(tmp_path, capsys):
    estimates = tmp_path / "estimates.toml"
    estimates.write_text('[[estimate]]\nlevel = 2\nname = "many"\nmodels = 7\nsource = "s"\n')
    words = ["universe", "--model", "gpt2", "--estimates", str(estimates)]
    main([*words, "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    for said in ("124,439,808", "196,800", "57,428,736", "not searched", "note: level 2"):
        assert said in shown
    assert (tmp_path / "out" / "universe.png").read_bytes().startswith(b"\x89PNG")
    written = (tmp_path / "out" / "universe.md").read_text()
    main([*words, "--out", str(tmp_path / "out"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["alt"] in written, found["hub"], found["minimal_set"]) == (True, None, None)
    assert found["findings"] == ["level 2, many: no date"]
    assert {row["level"] for row in found["rows"]} == set(range(7))
    assert len(found["brief"]) == 7


@pytest.fixture
def listing(monkeypatch):
    """A server that lists models."""
    server, handler = listing_server.start(page=2)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    with reached(server, monkeypatch):
        yield handler


def test_universe_live(listing, tmp_path, monkeypatch, capsys):
    live = ["universe", "--live", "--requests-per-second", "100", "--out", str(tmp_path)]
    listing.instead = [None, None, (503, {}, b"")]
    monkeypatch.setattr(hub_listing, "TRIES", 1)
    said = refused(capsys, *live)
    assert said.endswith(f"kept: 2 pages in {tmp_path / 'hub'}, the same command goes on")
    main([*live, "--max-pages", "2", "--json"])
    cut = json.loads(capsys.readouterr().out)
    assert cut["findings"] == [
        "all models: stopped after 1 page (`max_pages` is 2); the same command goes on"
    ]
    assert cut["rows"][0]["at_least"] == ["models"]
    main(live)
    shown = capsys.readouterr().out
    assert "fill-mask" in shown
    assert "| category | fill-mask | 2 |" in (tmp_path / "universe.md").read_text()
    assert "note:" not in shown
    assert len(listing.asked) == 7 + 1


def test_evaluate(tiny, capsys):
    base = ["evaluate", "--model", tiny, "--languages", "eng_Latn", "heb_Hebr", "--draws", "200"]
    main([*base, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["language"] for row in rows} == {"eng_Latn", "heb_Hebr"}
    main([*base, "--quantize", "--bits", "3", "--protect", "0.1"])
    shown = capsys.readouterr().out
    assert "INT3 per channel, 10 % protected" in shown
    assert "disparity" in shown
    main([*base, "--quantize", "--json"])
    worst = json.loads(capsys.readouterr().out)["summary"]["worst_language"]
    assert worst in ("eng_Latn", "heb_Hebr")


def test_evaluate_with_weights_in_files(tiny, tmp_path, monkeypatch, capsys):
    words = ["evaluate", "--model", tiny, "--languages", "eng_Latn", "--draws", "200", "--json"]
    quantized = [*words, "--quantize", "--bits", "3", "--protect", "0.1"]
    found = {}
    for place in ("memory", "files"):
        main([*quantized, "--weights", place])
        captured = capsys.readouterr()
        found[place] = json.loads(captured.out)
        assert "block by block" not in captured.err
    assert found["files"] == found["memory"]
    # They stay there by themselves where memory is short, and it is said.
    monkeypatch.setattr(stored_loading, "free_bytes", lambda device: 2**18)
    main(quantized)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == found["memory"]
    assert "0.0 GiB of memory are free: they stay in their files, block by block" in captured.err
    monkeypatch.setattr(stored_loading, "free_bytes", lambda device: None)
    main(words)
    assert "block by block" not in capsys.readouterr().err
    said = refused(capsys, *words, "--weights", "files", "--mesh", "data=1")
    assert said == "error: `weights` is files, which works on one device; `mesh` is data=1"
    config = (Path(tiny) / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize({}))
    said = refused(capsys, *words, "--weights", "files", "--model", str(tmp_path))
    assert "the weights are in flax_model.msgpack, which can only be read whole" in said


@pytest.mark.slow
def test_sensitivity_maps_every_language(mapped, tiny, capsys):
    languages = list(csv.DictReader((mapped / "languages.csv").open()))
    assert [row["language"] for row in languages] == list(LANGUAGES)
    assert all(float(row["top_lift"]) > 1 for row in languages)
    places = list(csv.DictReader((mapped / "location.csv").open()))
    for language in LANGUAGES:
        shares = [float(row["share"]) for row in places if row["language"] == language]
        assert sum(shares) == pytest.approx(1)
    for name in ("location.png", "overlap.png"):
        assert (mapped / "figures" / name).read_bytes().startswith(b"\x89PNG")
    # The same command reads what is there, and says the same in JSON.
    before = (mapped / "statistics" / "manifest.json").read_bytes()
    arguments = ["sensitivity", "--model", tiny, "--languages", *LANGUAGES, "--out", str(mapped)]
    main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    matrix = np.array(found["overlap"]["shares"])
    assert np.allclose(np.diag(matrix), 1)
    assert [row["language"] for row in found["languages"]] == list(LANGUAGES)
    assert (mapped / "statistics" / "manifest.json").read_bytes() == before
    assert "other" not in refused(capsys, *arguments, "--fraction", "1e-9")
    assert "statistics of another labels" in refused(capsys, *arguments, "--labels", "model")


@pytest.mark.slow
def test_sensitivity_of_one_language_needs_no_overlap(tiny, tmp_path, capsys):
    out = tmp_path / "one"
    options = ["--precision", "bfloat16", "--labels", "model", "--out", str(out)]
    main(["sensitivity", "--model", tiny, "--languages", "eng_Latn", *options])
    assert "eng_Latn" in capsys.readouterr().out
    assert not (out / "figures" / "overlap.png").exists()
    assert (out / "figures" / "location.png").exists()


@pytest.mark.slow
def test_minimal_set_from_shared_statistics(mapped, tiny, tmp_path, capsys):
    out = tmp_path / "minimal"
    arguments = ["minimal-set", "--model", tiny, "--languages", *LANGUAGES, "--bits", "2"]
    arguments += ["--criterion", "magnitude", "--precision", "3", "--draws", "200"]
    arguments += ["--statistics", str(mapped / "statistics"), "--relative", "0.0005"]
    main([*arguments, "--out", str(out)])
    assert "sizes tried on tune" in capsys.readouterr().out
    assert not (out / "statistics").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["criterion"] == "magnitude"
    model = load_model(tiny)
    if summary["found"]:
        mask = load_mask(out / "mask.npz", model)
        assert masks.count(mask, model.params) == summary["found"]
    main([*arguments, "--out", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["summary"] == summary
    main(["report", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["summary"] == summary
    assert "Is the target met?" in (out / "report.html").read_text(encoding="utf-8")
    main(["report", str(mapped)])
    assert capsys.readouterr().out.strip() == str(mapped / "report.html")


def test_a_packed_model_is_evaluated_and_exported(tiny, tmp_path, capsys):
    packed, exported = tmp_path / "packed", tmp_path / "exported"
    main(["pack", "--model", tiny, "--out", str(packed), "--bits", "3", "--protect", "0.01"])
    shown = capsys.readouterr().out
    written = (packed / "model.safetensors").stat().st_size
    assert f"{written:,} bytes, predicted {written:,}" in shown
    assert "token embedding" in shown
    main(["census", "--model", str(packed), "--json"])
    assert json.loads(capsys.readouterr().out)["eligible"]["matrices"] == (6144 + 128 + 96) * 8
    main(["export", "--model", str(packed), "--out", str(exported), "--json"])
    assert json.loads(capsys.readouterr().out)["dtype"] == "float32"
    rows, measured = [], ["--languages", "eng_Latn", "--draws", "99", "--json"]
    for model in (packed, exported):
        main(["evaluate", "--model", str(model), *measured])
        rows.append(json.loads(capsys.readouterr().out)[0])
    assert rows[0]["nats"] == pytest.approx(rows[1]["nats"], rel=1e-6)
    base = ["--model", str(packed), "--languages", "eng_Latn", "--out", str(tmp_path / "new")]
    assert "is a packed model" in refused(capsys, "sensitivity", *base)
    assert "is a packed model" in refused(capsys, "minimal-set", "--share", "0.5", *base)
    assert "is a packed model" in refused(capsys, "evaluate", *base[:4], "--quantize")
    assert "is a packed model" in refused(capsys, "pack", *base[:2], *base[-2:])
    assert "exists already" in refused(capsys, "export", *base[:2], "--out", str(exported))


def test_pack_with_a_mask_file(tiny, tmp_path, capsys):
    model, file = load_model(tiny), tmp_path / "mask.npz"
    save_mask(file, masks.components(model.params, ["mlp"]), model)
    out = tmp_path / "packed"
    main(["pack", "--model", tiny, "--out", str(out), "--mask", str(file), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["predicted"] == found["written"] == (out / "model.safetensors").stat().st_size
    protected = {row["part"]: row["protected"] for row in found["parts"]}
    assert protected["mlp"] == protected["model"] == 2 * 8 * 32
    assert found["float16"] == 2 * sum(leaf.size for leaf in jax.tree.leaves(model.params))
    both = ["pack", "--model", tiny, "--mask", str(file), "--protect", "0.1"]
    assert "`mask` and `protect` are both given" in refused(capsys, *both)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "--model", "/no/where"], "`/no/where` does not exist"),
        (["pack", "--mask", "no.npz"], "`mask` no.npz cannot be read"),
        (["pack", "--protect", "2"], "`fraction` is 2.0; allowed is 0 to 1"),
        (["export", "--model", "/no/where"], "`/no/where` does not exist"),
        (["census", "--model", "no/such folder"], "`no/such folder`"),
        (["evaluate", "--languages", "xxx_Xxxx"], "`languages` names xxx_Xxxx"),
        (["evaluate", "--quantize", "--bits", "9"], "`bits` is 9; allowed are 2 to 8"),
        (["evaluate", "--quantize", "--protect", "1.5"], "`fraction` is 1.5; allowed is 0 to 1"),
        (["evaluate", "--texts", "/no/where"], "`source` is '/no/where'"),
        (["sensitivity", "--fraction", "2"], "`fraction` is 2.0; allowed is 0 to 1"),
        (["minimal-set"], "`target` asks nothing"),
        (["universe", "--model", "no/such folder"], "`no/such folder`"),
        (["universe", "--estimates", "no.toml"], "`estimates` no.toml cannot be read"),
        (["universe", "--minimal-set", "no"], "`minimal_set` no is no folder"),
        (["universe", "--minimal-set", "."], ". is not a run folder"),
        (["universe", "--live", "--max-pages", "0"], "`max_pages` is 0; allowed: from 1"),
        (["minimal-set", "--share", "0"], "`share` is 0.0"),
        (["minimal-set", "--share", "0.5", "--criterion", "magic"], "`criterion` is 'magic'"),
        (["minimal-set", "--share", "0.5", "--precision", "1"], "`precision` is 1.0"),
        (["report"], "`runs`"),
        (["report", "/no/such/run"], "/no/such/run is not a run folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []  # nothing half written


@pytest.mark.parametrize("words", [["evaluate", "--help"], ["minimal-set", "--help"]])
def test_no_color_is_respected_on_a_terminal(words, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for no_color, coloured in (("", True), ("1", False)):
        said = Terminal()
        monkeypatch.setattr(sys, "stdout", said)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", no_color)
        with pytest.raises(SystemExit):
            main(words)
        assert ("\x1b[" in said.getvalue()) == coloured
        assert os.environ["TERM"] == "xterm"
