"""Signals end a command cleanly, and a folder has one writer at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import exp_011
from experiments.command_line import main as experiment
from jaxprotect.disk import locked
from jaxprotect.endings import INTERRUPTED, TERMINATED, end_in_one_line
from jaxprotect.errors import InputError
from jaxprotect.models.folders import written_whole
from jaxprotect.runs.results import open_run
from tests.runs.test_results import MANIFEST, fill
from tests.trust.children import (
    finish,
    results,
    run_search,
    run_sweep,
    running,
    save_inputs,
    wait_for,
)
from tests.trust.faulty_disk import faulty_disk


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_inputs(tmp_path_factory.mktemp("inputs"))


def command(job, line, *arguments):
    """A job as a command, its standard error in a file."""
    os.dup2(os.open(line, os.O_WRONLY | os.O_CREAT), 2)
    end_in_one_line(lambda: job(*arguments))


ENDINGS = {
    signal.SIGTERM: (143, "terminated; give the same command again"),
    signal.SIGINT: (130, "interrupted; give the same command again"),
}


def halting(job, model, out, ready):
    """A job that waits, in the middle of a write, until it is stopped."""

    def halt():
        if ready.exists():
            return  # stopped already: what tidies up is not to wait again
        ready.touch()
        while True:  # one long sleep would miss a signal that comes just before it
            time.sleep(0.01)

    with faulty_disk(out, lambda count: rows_of(out) and count % 5 == 0, halt):
        job(model, out)


def rows_of(folder):
    """What is finished."""
    return b"".join(path.read_bytes() for path in folder.rglob("results.jsonl"))


def test_the_codes_are_those_of_the_shell():
    assert (INTERRUPTED, TERMINATED) == (130, 143)


@pytest.mark.parametrize("sent", ENDINGS)
@pytest.mark.parametrize("job", [run_sweep, pytest.param(run_search, marks=pytest.mark.slow)])
def test_a_signal_ends_a_job_in_one_line_and_the_next_goes_on(job, sent, tiny, tmp_path):
    code, words = ENDINGS[sent]
    folder, line = tmp_path / "run", tmp_path / "line"
    with running(command, halting, line, job, tiny, folder, tmp_path / "ready") as child:
        wait_for((tmp_path / "ready").exists)
        os.kill(child.pid, sent)
        child.join(60)
        assert child.exitcode == code, line.read_text()
    said = line.read_text().strip()
    assert said.splitlines()[-1].startswith(words)
    assert "Traceback" not in said
    assert not list(folder.rglob("*.tmp"))
    kept = rows_of(folder)
    assert kept.endswith(b"\n")
    finish(job, tiny, folder)  # the lock is free
    finish(job, tiny, tmp_path / "whole")
    assert results(folder) == results(tmp_path / "whole")
    assert rows_of(folder).startswith(kept)


def wait_in_a_command(folder, name, monkeypatch_argv):
    """An experiment's command line that waits until it is stopped."""
    import sys

    def wait(config):
        (folder / "ready").touch()
        while True:
            time.sleep(0.01)

    sys.argv = monkeypatch_argv
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), 2)
    experiment(exp_011.Config, wait)


@pytest.mark.parametrize("sent", ENDINGS)
def test_an_experiment_ends_as_a_command_does(sent, tmp_path):
    code, words = ENDINGS[sent]
    with running(wait_in_a_command, tmp_path, "line", ["exp_011"]) as child:
        wait_for((tmp_path / "ready").exists)
        os.kill(child.pid, sent)
        child.join(60)
        assert child.exitcode == code
    assert (tmp_path / "line").read_text().startswith(words)


def test_a_reader_who_leaves_is_not_a_mistake():
    read, write = os.pipe()
    os.close(read)
    words = (["--help"], ["minimal-set", "--help"], ["census", "--model", "gpt2"])
    command = [sys.executable, "-m", "jaxprotect.cli"]
    started = [
        subprocess.Popen([*command, *rest], stdout=write, stderr=subprocess.PIPE) for rest in words
    ]
    os.close(write)
    for child in started:
        assert child.communicate(timeout=60) == (None, b"")
        assert child.returncode == 141


def test_what_an_ordinary_mistake_raises_is_not_hidden(capsys):
    def mistake():
        raise KeyError("a mistake of ours")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError):
        end_in_one_line(mistake)
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == ""


def hold_run(folder):
    with open_run(folder, MANIFEST):
        (folder / "ready").touch()
        time.sleep(600)


def hold_statistics(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", "statistics"):
        (folder / "ready").touch()
        time.sleep(600)


def hold_new_folder(folder):
    with written_whole(folder) as unfinished:
        (unfinished / "half").write_text("half")
        (folder.parent / "ready").touch()
        time.sleep(600)


def test_a_run_has_one_writer_and_a_killed_one_frees_it(tmp_path):
    folder = tmp_path / "run"
    with running(hold_run, folder) as child:
        wait_for((folder / "ready").exists)
        started = time.monotonic()
        with pytest.raises(InputError, match=f"{folder} is being written by another process"):
            fill(folder)
        assert time.monotonic() - started < 1
        os.kill(child.pid, signal.SIGKILL)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    fill(folder)


def test_statistics_have_one_writer_and_a_killed_one_frees_them(tmp_path, monkeypatch):
    from tests.runs import test_statistics_store as store_tests

    folder = tmp_path / "statistics"
    store = store_tests.fresh(folder)
    nats = dict.fromkeys(store_tests.LANGUAGES, 1.0)

    def measure():
        return store_tests.measure_statistics(store, store_tests.MODEL, store_tests.ENCODED, nats)

    monkeypatch.setattr(
        "jaxprotect.runs.statistics_store.language_statistics",
        lambda params, *args, **options: store_tests.random_statistics(params),
    )
    with running(hold_statistics, folder) as child:
        wait_for((folder / "ready").exists)
        with pytest.raises(InputError, match=f"{folder} is being written by another process"):
            measure()
        assert store_tests.fresh(folder).languages == ()  # reading is free
        os.kill(child.pid, signal.SIGKILL)
        child.join(60)
    assert measure().languages == store_tests.LANGUAGES


def test_languages_that_another_process_has_finished_are_not_measured_again(tmp_path, monkeypatch):
    from tests.runs import test_statistics_store as store_tests

    folder = tmp_path / "statistics"
    early, late = store_tests.fresh(folder), store_tests.fresh(folder)
    for language in store_tests.LANGUAGES:
        early = early.save(language, store_tests.random_statistics(store_tests.MODEL.params), 1.0)
    found = store_tests.measure_statistics(late, store_tests.MODEL, store_tests.ENCODED, {})
    assert found.languages == store_tests.LANGUAGES


def test_a_new_folder_has_one_writer_and_a_killed_one_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "packed"
    with running(hold_new_folder, folder) as child:
        wait_for((tmp_path / "ready").exists)
        with (
            pytest.raises(InputError, match=f"{folder} is being written by another process"),
            written_whole(folder),
        ):
            pass
        os.kill(child.pid, signal.SIGKILL)
        child.join(60)
    assert (tmp_path / ".packed.tmp" / "half").exists()
    with written_whole(folder) as unfinished:
        (unfinished / "whole").write_text("whole")
    (tmp_path / "ready").unlink()
    assert [path.name for path in tmp_path.rglob("*")] == ["packed", "whole"]
    with pytest.raises(InputError, match="exists already"), written_whole(folder):
        pass


def test_a_lock_that_was_taken_away_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking, the holder before may have removed the file."""
    import fcntl

    def late(file, how):
        Path(file.name).unlink()
        real(file, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    with (
        pytest.raises(InputError, match="being written by another process"),
        locked(tmp_path / "lock", "`out` x"),
    ):
        pass


def test_a_run_killed_before_its_manifest_was_whole_starts_again(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".manifest.json.tmp").write_text('{"conf')
    fill(tmp_path)
    assert not (tmp_path / ".manifest.json.tmp").exists()
