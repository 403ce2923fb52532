import json
import multiprocessing
import shutil

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.runs.results import (
    ORIGINAL,
    append_variant,
    open_run,
    read_run,
    save_original,
    write_atomically,
)

MANIFEST = {
    "config": {"bits": 4, "nested": {"a": 1}},
    "model": {"sha256": "m", "architecture": {"vocab_size": 50}},
    "texts": {"sha256": "t", "languages": ["deu_Latn", "eng_Latn"], "ids": [1, 2, 3]},
    "experiments": {"exp": ["a", "b"]},
}


def evaluation(seed: int) -> Evaluation:
    generator = np.random.default_rng(seed)
    sizes = {"deu_Latn": np.array([5, 6, 7]), "eng_Latn": np.array([4, 4, 9])}
    nats = {language: generator.uniform(5, 9, 3) for language in sizes}
    return Evaluation(
        nats=nats, tokens=sizes, bytes=sizes, characters=sizes, ids=(1, 2, 3), vocab_size=50
    )


def rows(variant: str) -> list[dict]:
    return [{"variant": variant, "language": name} for name in ("deu_Latn", "eng_Latn")]


def fill(folder, variants=("a", "b")):
    with open_run(folder, MANIFEST) as run:
        save_original(run, evaluation(0))
        for index, name in enumerate(variants):
            if name not in run.variants:
                run = append_variant(run, name, evaluation(index + 1), rows(name))
    return run


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_is_read_back(tmp_path):
    fill(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.variants == ["a", "b"]
    assert run.has_original
    for name, seed in ((ORIGINAL, 0), ("a", 1), ("b", 2)):
        want, got = evaluation(seed), run.evaluation(name)
        assert got.ids == want.ids
        assert got.vocab_size == 50
        for language in want.nats:
            np.testing.assert_array_equal(got.nats[language], want.nats[language])
            np.testing.assert_array_equal(got.bytes[language], want.bytes[language])


def test_manifest_names_versions_and_device(tmp_path):
    manifest = fill(tmp_path / "run").manifest
    assert manifest["device"]["platform"] == "cpu"
    assert {"python", "jax", "numpy"} <= manifest["versions"].keys()


@pytest.mark.parametrize("cut", [1, 20, 47, 60, 90, 130, 163])
def test_a_run_cut_anywhere_resumes_to_the_same_bytes(tmp_path, cut):
    fill(tmp_path / "whole")
    fill(tmp_path / "cut")
    path = tmp_path / "cut" / "results.jsonl"
    data = path.read_bytes()
    assert cut < len(data)
    path.write_bytes(data[:cut])  # what a killed process may leave
    fill(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_run_from_before_a_field_of_architectures_goes_on_with_its_default(tmp_path):
    fill(tmp_path / "run")
    before = contents(tmp_path / "run")
    now = json.loads(json.dumps(MANIFEST))
    now["model"]["architecture"]["norm"] = "layer"
    with open_run(tmp_path / "run", now) as run:
        assert run.variants == ["a", "b"]
    assert contents(tmp_path / "run") == before
    now["model"]["architecture"]["norm"] = "rms"
    message = r"another run.*architecture\.norm: 'layer' there, 'rms' now"
    with pytest.raises(InputError, match=message), open_run(tmp_path / "run", now):
        pass


def test_resume_of_another_configuration_is_refused_and_loses_nothing(tmp_path):
    fill(tmp_path / "run")
    before = contents(tmp_path / "run")
    other = json.loads(json.dumps(MANIFEST))
    other["config"]["nested"]["a"] = 2
    with (
        pytest.raises(InputError, match=r"another run.*config\.nested\.a: 1 there, 2 now"),
        open_run(tmp_path / "run", other),
    ):
        pass
    assert contents(tmp_path / "run") == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with (
        pytest.raises(InputError, match=r"no manifest.json but holds \['thesis.tex'\]"),
        open_run(tmp_path, MANIFEST),
    ):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert not (tmp_path / "manifest.json").exists()


def _try_to_open(folder, queue):
    try:
        with open_run(folder, MANIFEST):
            queue.put("opened")
    except InputError as error:
        queue.put(str(error))


def test_a_second_writer_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with open_run(tmp_path / "run", MANIFEST):
        other = context.Process(target=_try_to_open, args=(tmp_path / "run", queue))
        other.start()
        assert "is being written by another process" in queue.get(timeout=120)
        other.join()
    with open_run(tmp_path / "run", MANIFEST):  # released
        pass


def test_damaged_files_are_named(tmp_path):
    fill(tmp_path / "run")
    with pytest.raises(InputError, match="is not a run folder"):
        read_run(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "run", broken)
    (broken / "results.jsonl").write_text('{"variant": "a"}\nnonsense\n')
    with pytest.raises(InputError, match=r"results.jsonl:2` is not readable as JSON"):
        read_run(broken)
    (broken / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json` is not readable as JSON"):
        read_run(broken)
    run = read_run(tmp_path / "run")
    (run.folder / "nats" / "a.npy").write_bytes(b"short")
    with pytest.raises(InputError, match=r"a\.npy` cannot be read"):
        run.evaluation("a")


def test_atomic_write_leaves_no_temporary_file(tmp_path):
    write_atomically(tmp_path / "deep" / "file", b"1")
    write_atomically(tmp_path / "deep" / "file", b"22")
    assert contents(tmp_path) == {"deep/file": b"22"}
