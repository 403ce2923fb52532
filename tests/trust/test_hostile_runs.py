"""Damaged runs and statistics: refused in one line that names the file, or the same numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.models.model import Model
from jaxprotect.runs.minimal_folder import read_minimal
from jaxprotect.runs.recommend_folder import read_recommendation
from jaxprotect.runs.report import write_report
from jaxprotect.runs.results import ORIGINAL, Run, append_variant, open_run, read_run, save_original
from jaxprotect.runs.sensitivity_page import read_map
from jaxprotect.runs.statistics_store import StatisticsStore, open_store, read_store
from jaxprotect.runs.summary import summarise
from jaxprotect.selection.statistics import Statistics
from jaxprotect.trees import leaf_paths
from tests.runs.synthetic import make_map, make_recommendation, make_run, make_search, only
from tests.selection.test_scores import random_statistics
from tests.tiny import CONFIG, random_params
from tests.trust.mutations import (
    FLIPS,
    damaged_bytes,
    damaged_json,
    every_flip,
    memory_limit,
    read_or_refusal,
    seeds,
)

LANGUAGES = ("deu_Latn", "eng_Latn")
MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="m")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    plan = only("none", "magnitude-0.05", "random-0.05-seed0")
    folder = tmp_path_factory.mktemp("runs") / "run"
    return make_run(folder, plan, languages=LANGUAGES, sentences=3, draws=40).folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def everything(folder: Path) -> tuple[Run, dict[str, Evaluation]]:
    run = read_run(folder)
    return run, {name: run.evaluation(name) for name in (ORIGINAL, *run.variants)}


def numbers(evaluation: Evaluation) -> list[list[np.ndarray]]:
    parts = (evaluation.nats, evaluation.tokens, evaluation.bytes, evaluation.characters)
    return [list(part.values()) for part in parts]


def require_same_numbers(found: Evaluation, expected: Evaluation, case: object) -> None:
    for a, b in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(case))


@pytest.mark.parametrize("name", [ORIGINAL, "none", "sizes"])
@seeds(150, 400)
def test_numbers_of_a_run_are_refused_or_the_same(folder, cases, name):
    path, (_, expected), refused = folder / "nats" / f"{name}.npy", everything(folder), 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            path.write_bytes(damaged_bytes(whole, np.random.default_rng([1, case])))
            found = read_or_refusal(lambda: everything(folder), str(path), case)
            if found is None:
                refused += 1
            else:
                for variant, evaluation in found[1].items():
                    require_same_numbers(evaluation, expected[variant], case)
    assert refused > len(cases) / 4


@pytest.mark.parametrize("name", [ORIGINAL, "sizes"])
@pytest.mark.parametrize(("step", "bits"), FLIPS)
def test_flipped_bits_of_the_numbers_of_a_run_are_found(folder, name, step, bits):
    path = folder / "nats" / f"{name}.npy"
    whole = path.read_bytes()
    for case, data in every_flip(whole, range(0, len(whole), step), bits):
        path.write_bytes(data)
        found = read_or_refusal(lambda: everything(folder), str(path), case)
        assert found is None, case


def test_numbers_of_older_runs_which_have_no_checksum_are_read(folder):
    _, expected = everything(folder)
    for path in (folder / "nats").iterdir():
        values = np.load(path, allow_pickle=False)  # others read the files as well
        np.save(path, values)
    for name, evaluation in everything(folder)[1].items():
        require_same_numbers(evaluation, expected[name], name)


@seeds(300, 600)
def test_results_of_a_run_are_refused_or_read_as_they_say(folder, cases):
    path, (_, expected), refused = folder / "results.jsonl", everything(folder), 0
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    with memory_limit():
        for case in cases:
            generator = np.random.default_rng([2, case])
            data = damaged_bytes(whole, generator)
            if case % 2:
                line = int(generator.integers(len(lines)))
                changed = damaged_json(lines[line].rstrip(), generator) + b"\n"
                data = b"".join([*lines[:line], changed, *lines[line + 1 :]])
            path.write_bytes(data)
            found = read_or_refusal(lambda: everything(folder), str(folder), case)
            if found is None:
                refused += 1
                continue
            said = [json.loads(line) for line in data.split(b"\n")[:-1]]
            assert list(found[0].rows) == said, case
            for variant in found[0].variants:
                require_same_numbers(found[1][variant], expected[variant], case)
            read_or_refusal(lambda run=found[0]: summarise(run), str(folder), case)
    assert len(cases) / 4 < refused < len(cases)


@seeds(300, 600)
def test_the_manifest_of_a_run_is_refused_or_read_as_it_says(folder, cases):
    path, (_, expected), refused = folder / "manifest.json", everything(folder), 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            data = damaged_json(whole, np.random.default_rng([3, case]))
            path.write_bytes(data)
            found = read_or_refusal(lambda: everything(folder), str(folder), case)
            if found is None:
                refused += 1
                continue
            run, evaluations = found
            assert run.manifest == json.loads(data), case
            for variant, evaluation in evaluations.items():
                require_same_numbers(evaluation, expected[variant], case)
                assert list(evaluation.nats) == run.manifest["texts"]["languages"], case
            read_or_refusal(lambda run=run: summarise(run), str(folder), case)
    assert len(cases) / 10 < refused < len(cases)


@pytest.mark.parametrize(
    ("name", "read", "make"),
    [
        *((name, read_minimal, make_search) for name in ("summary.json", "curve.csv")),
        *((name, read_minimal, make_search) for name in ("damages.csv", "location.csv")),
        *((name, read_map, make_map) for name in ("languages.csv", "location.csv", "overlap.csv")),
        *((name, read_recommendation, make_recommendation) for name in ("tried.csv",)),
    ],
)
@seeds(30, 300)
def test_tables_of_commands_are_refused_or_read(tmp_path, cases, name, read, make):
    """A page is made of them: types, languages and parts of the model must be what they say."""
    folder = make(tmp_path / "made")
    path, refused = folder / name, 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            generator = np.random.default_rng([4, case])
            json_too = name.endswith(".json") and case % 2
            path.write_bytes((damaged_json if json_too else damaged_bytes)(whole, generator))
            refused += read_or_refusal(lambda: read(folder), str(folder), case) is None
    assert refused > len(cases) / 4


@pytest.mark.parametrize("name", ["manifest.json", "results.jsonl"])
@seeds(40, 120)
def test_a_damaged_run_is_refused_or_resumed(folder, cases, name):
    """Never a second run mixed into the first, and never an error of another kind."""
    path = folder / name
    manifest = {
        key: value
        for key, value in json.loads((folder / "manifest.json").read_bytes()).items()
        if key not in ("versions", "device")
    }
    whole, damage = path.read_bytes(), damaged_json if name == "manifest.json" else damaged_bytes

    def resumed() -> list[str]:
        with open_run(folder, manifest) as run:
            return run.variants

    for case in cases:
        path.write_bytes(damage(whole, np.random.default_rng([4, case])))
        read_or_refusal(resumed, str(folder), case)


def test_a_resumed_run_has_the_same_bytes_with_its_checksums(folder, tmp_path):
    run, evaluations = everything(folder)
    manifest = {key: v for key, v in run.manifest.items() if key not in ("versions", "device")}
    (tmp_path / "again").mkdir()
    for stop in (1, 3):  # the second time from where the first one ended
        with open_run(tmp_path / "again", manifest) as again:
            save_original(again, evaluations[ORIGINAL])
            for variant in run.variants[:stop]:
                if variant not in again.variants:
                    rows = [row for row in run.rows if row["variant"] == variant]
                    again = append_variant(again, variant, evaluations[variant], rows)
    for path in [*(folder / "nats").iterdir(), folder / "results.jsonl"]:
        other = tmp_path / "again" / path.relative_to(folder)
        assert path.read_bytes() == other.read_bytes(), path.name


@pytest.mark.parametrize("name", ["manifest.json", "results.jsonl"])
@seeds(6, 40)
def test_a_report_is_written_or_refused(folder, cases, name):
    path, written = folder / name, 0
    whole = path.read_bytes()

    def report() -> Path:
        return write_report(read_run(folder))

    for case in cases:
        generator = np.random.default_rng([7, case])
        lines = [whole] if name == "manifest.json" else whole.splitlines()
        line = int(generator.integers(len(lines)))
        lines[line] = damaged_json(lines[line], generator)
        path.write_bytes(b"\n".join([*lines, b""]))
        written += read_or_refusal(report, str(folder), case) is not None
    assert written < len(cases)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    texts = {"source": "s", "sha256": "t", "languages": list(LANGUAGES), "ids": [1, 2]}
    folder = tmp_path_factory.mktemp("statistics") / "store"
    store = open_store(
        folder,
        model=MODEL,
        texts_description=texts,
        labels="data",
        seed=0,
        precision="float32",
    )
    store.save("eng_Latn", random_statistics(MODEL.params, 0), nats=1.0)
    return folder


@pytest.fixture
def statistics(stored, tmp_path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "store"))


def store_of(folder: Path) -> tuple[StatisticsStore, Statistics]:
    store = read_store(folder, MODEL)
    return store, store.load("eng_Latn", ("square", "inputs"))


def require_same_statistics(found: Statistics, expected: Statistics, case: object) -> None:
    assert found.inputs.keys() == expected.inputs.keys()
    pairs = [(found.square, expected.square)]
    pairs += [(vars(found.inputs[path]), vars(expected.inputs[path])) for path in found.inputs]
    for a, b in pairs:
        leaves = leaf_paths(b)
        assert leaf_paths(a).keys() == leaves.keys(), case
        for name, leaf in leaf_paths(a).items():
            np.testing.assert_array_equal(leaf, leaves[name], err_msg=str(case))


@seeds(60, 200)
def test_stored_statistics_are_refused_or_the_same(statistics, cases):
    _, expected = store_of(statistics)
    paths = sorted(
        path
        for part in ("square", "inputs")
        for path in (statistics / "eng_Latn" / part).rglob("*")
        if path.is_file() and path.stat().st_size
    )
    refused = 0
    with memory_limit():
        for case in cases:
            generator = np.random.default_rng([5, case])
            path = paths[case % len(paths)]
            whole = path.read_bytes()
            damage = damaged_json if case % 2 and whole.startswith(b"{") else damaged_bytes
            path.write_bytes(damage(whole, generator))
            found = read_or_refusal(lambda: store_of(statistics), str(statistics), case)
            path.write_bytes(whole)
            if found is None:
                refused += 1
            else:
                require_same_statistics(found[1], expected, case)
    assert len(cases) / 10 < refused


@seeds(60, 200)
def test_the_manifest_of_statistics_is_refused_or_read_as_it_says(statistics, cases):
    path, (_, expected), refused = statistics / "manifest.json", store_of(statistics), 0
    whole = path.read_bytes()
    with memory_limit():
        for case in cases:
            data = damaged_json(whole, np.random.default_rng([6, case]))
            path.write_bytes(data)
            found = read_or_refusal(lambda: store_of(statistics), str(statistics), case)
            if found is None:
                refused += 1
                continue
            store, loaded = found
            require_same_statistics(loaded, expected, case)
            said = json.loads(data)
            assert store.nats == {n: said["languages"][n]["nats"] for n in store.languages}, case
            entry = said["languages"]["eng_Latn"]
            assert (loaded.sentences, loaded.tokens) == (entry["sentences"], entry["tokens"]), case
    assert len(cases) / 10 < refused < len(cases)
