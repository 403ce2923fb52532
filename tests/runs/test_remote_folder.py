"""Folders at URLs: one writer, the same bytes as on a disk, and any moment can be gone on from."""

import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from experiments import exp_011
from experiments.command_line import main as experiment
from jaxprotect.cli import main
from jaxprotect.disk import make_folder
from jaxprotect.errors import InputError
from jaxprotect.hosts import Terminated
from jaxprotect.runs import lease, remote_folder
from jaxprotect.runs.lease import HeldError, Holder, LostError, leased
from jaxprotect.runs.mirror import Mirror
from jaxprotect.runs.remote_folder import address, uploaded_file, working_folder
from jaxprotect.urls import url_of
from tests.trust.children import (
    finish,
    results,
    run_search,
    run_sweep,
    save_inputs,
    start,
    wait_for,
)

URL = "memory://bucket/run"


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty store in memory; local copies lie in a folder of the test."""
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    return fs


def stored(fs):
    return {path.removeprefix("/bucket/run/"): fs.cat(path) for path in fs.find("/bucket/run")}


def work(do, **options):
    with working_folder(URL, **options) as folder:
        do(folder)


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("gs://bucket/a/run", "gs://bucket/a/run"),
        ("gs://bucket/run/", "gs://bucket/run"),
        ("S3://bucket", "s3://bucket"),
        ("file:///tmp/run", "file:///tmp/run"),
        ("memory://run", "memory://run"),
        ("runs/a", None),
        ("/tmp/a:b/c", None),
        ("C:/runs", None),
        ("runs:a", None),
    ],
)
def test_a_url_is_known_also_after_it_was_a_path(given, url):
    assert url_of(given) == url
    assert url_of(Path(given)) == url


def test_a_local_folder_is_given_back_as_it_is(tmp_path):
    with working_folder(tmp_path / "new") as folder:
        assert folder == tmp_path / "new"
        assert not folder.exists()
        assert address(folder) == str(folder)
    with uploaded_file(tmp_path / "page.html") as page:
        assert page == tmp_path / "page.html"


def test_nothing_makes_a_local_folder_of_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="gs://bucket/run is a URL"):
        make_folder(Path("gs://bucket/run"))
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_at_the_url_and_comes_back(store, tmp_path):
    with working_folder(URL) as folder:
        assert folder.name == "run"
        assert address(folder / "nats" / "a.npy") == f"{URL}/nats/a.npy"
        write(
            folder, nats__a="1", results="row", lock="", _dot_heb_dot_tmp__a="half", tune__lock=""
        )
        write(folder, _dot_manifest_dot_tmp="half", old="x")
    assert stored(store) == {"nats/a": b"1", "results": b"row", "old": b"x"}
    assert not list(tmp_path.iterdir())
    with working_folder(Path(URL)) as folder:
        assert (folder / "nats" / "a").read_text() == "1"
        (folder / "old").unlink()
        with (folder / "results").open("a") as file:
            file.write("row")
    assert stored(store) == {"nats/a": b"1", "results": b"rowrow"}


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_finished_is_uploaded_however_it_ends(error, store):
    def stop(folder):
        write(folder, done="1")
        raise error("stop")

    with pytest.raises(error):
        work(stop)
    assert stored(store) == {"done": b"1"}


def test_it_is_uploaded_while_work_goes_on(store, monkeypatch):
    monkeypatch.setattr(remote_folder, "SOON", 0.01)
    with working_folder(URL) as folder:
        for number in range(3):
            write(folder, results=str(number))
            wait_for(lambda n=number: stored(store).get("results") == str(n).encode(), 10)


def test_errors_name_the_url(store):
    def other(folder):
        raise InputError(f"`out` {folder}/a holds another run")

    def full(folder):
        raise InputError(f"{folder}/a cannot be written") from OSError(28, "full")

    with pytest.raises(InputError, match=f"^`out` {URL}/a holds another run"):
        work(other)
    with pytest.raises(InputError, match=rf"{URL} is worked on there; TMPDIR"):
        work(full)


def test_a_network_that_goes_away_is_waited_for(store, monkeypatch, capsys):
    monkeypatch.setattr(remote_folder, "SOON", 0.01)
    tries = []

    def away(*_):
        tries.append(1)
        raise ConnectionError("no route")

    with working_folder(URL) as folder:
        with monkeypatch.context() as patched:
            patched.setattr(type(store), "pipe_file", away)
            patched.setattr(type(store), "put_file", away)
            write(folder, results="1")
            wait_for(lambda: len(tries) > 2, 10)
        wait_for(lambda: "results" in stored(store), 10)
    assert capsys.readouterr().err.count("cannot be reached now: ConnectionError: no route") == 1


def test_a_copy_that_cannot_be_uploaded_stays(store, monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError("no")

    def close(folder):
        write(folder, results="1")
        monkeypatch.setattr(type(store), "put_file", refuse)

    with pytest.raises(InputError, match="cannot be reached: PermissionError: no") as refused:
        work(close)
    kept = next(tmp_path.glob("jaxprotect-*/run"))
    assert f"what is not uploaded lies in {kept}" in str(refused.value)
    assert (kept / "results").read_text() == "1"
    assert not store.exists("/bucket/run/lock")


def test_a_signal_stays_one_where_the_last_upload_fails(store, monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise PermissionError("no")

    def close(folder):
        write(folder, results="1")
        monkeypatch.setattr(type(store), "put_file", refuse)
        raise Terminated

    with pytest.raises(Terminated):  # after which a scheduler begins again
        work(close)
    kept = next(tmp_path.glob("jaxprotect-*/run"))
    said = capsys.readouterr().err
    assert "PermissionError: no" in said
    assert f"what is not uploaded lies in {kept}" in said
    assert (kept / "results").read_text() == "1"


def test_a_new_folder_is_refused_where_files_are(store):
    with working_folder(URL, new=True) as folder:
        write(folder, a="1")
    with pytest.raises(InputError, match="exists already; give a new or empty"):
        work(print, new=True)
    assert stored(store) == {"a": b"1"}


def test_a_new_folder_that_a_killed_process_left_is_made_afresh(store):
    lock = {}

    def half(folder):
        write(folder, a="1", b="2")
        lock.update(json.loads(store.cat("/bucket/run/lock")))

    work(half, new=True)
    left = Holder(**lock)
    assert left.fills
    put_lock(store, replace(left, time=0.0))
    work(lambda folder: write(folder, a="3"), new=True)
    assert stored(store) == {"a": b"3"}
    # Who only looked, and was killed, leaves finished files alone.
    put_lock(store, OTHER)
    with pytest.raises(InputError, match="exists already"):
        work(print, new=True)
    assert stored(store) == {"a": b"3"}


def test_names_do_not_lead_out_of_the_copy(store, tmp_path):
    store.pipe_file("/bucket/run/../../evil", b"1")
    store.store = {"/bucket/run/../../evil": store.store.popitem()[1]}
    with pytest.raises(InputError, match="leads out of it"), working_folder(URL):
        pass
    assert not list(tmp_path.rglob("evil"))


BAD = [
    ("gs://bucket/run", "`out` is 'gs://bucket/run': .*gcsfs.*jaxprotect.gcs."),
    ("gss://bucket/run", "`out` is 'gss://bucket/run': .*allowed: a folder, or a URL like gs://"),
    ("gs://", "`out` is 'gs://'; allowed"),
    ("file:///proc/nothing/run", "`out` file:///proc/nothing/run cannot be reached: .*credentials"),
]


@pytest.mark.parametrize(("url", "said"), BAD)
def test_urls_that_cannot_be_written(url, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=said), working_folder(url):
        pass


# The lease.

OTHER = Holder(token="other", host="tpu-3", pid=7, machine="elsewhere", time=0.0)


def put_lock(store, holder):
    data = holder if isinstance(holder, bytes) else json.dumps(asdict(holder)).encode()
    store.pipe_file("/bucket/run/lock", data)


def test_a_second_writer_is_refused_by_the_name_of_the_first(store, monkeypatch, capsys):
    put_lock(store, replace(OTHER, time=time.time() - 40))
    renewed = replace(OTHER, time=time.time() - 20)
    monkeypatch.setattr(lease.time, "sleep", lambda _: put_lock(store, renewed))
    said = rf"`out` {URL} is being written by another process .host tpu-3, process 7, .* 20 s ago"
    with pytest.raises(HeldError, match=said):
        work(print)
    assert "tpu-3, process 7, last sign of life 40 s ago); waiting" in capsys.readouterr().err
    store.rm("/bucket/run/lock")
    with working_folder(URL), pytest.raises(HeldError), working_folder(URL):
        pass
    with working_folder(URL):
        pass
    assert not stored(store)


@pytest.mark.parametrize("ahead", [-40, 3600])
def test_a_job_that_was_killed_elsewhere_is_waited_for(ahead, store, monkeypatch):
    put_lock(store, replace(OTHER, time=time.time() + ahead))
    slept = []
    clock, now = time.monotonic, time.time
    monkeypatch.setattr(lease.time, "sleep", slept.append)
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock() + sum(slept))
    monkeypatch.setattr(lease.time, "time", lambda: now() + sum(slept))
    with working_folder(URL) as folder:
        write(folder, a="1")
    assert lease.STALE - 50 < sum(slept) < lease.STALE + 50
    assert stored(store) == {"a": b"1"}


def test_a_reader_of_what_another_writes_uploads_nothing(store, monkeypatch):
    with working_folder(URL) as folder:
        write(folder, a="1")
    put_lock(store, replace(OTHER, time=time.time() - 9))
    alive = replace(OTHER, time=time.time())
    monkeypatch.setattr(lease.time, "sleep", lambda _: put_lock(store, alive))
    with working_folder(URL, shared=True) as folder:
        assert (folder / "a").read_text() == "1"
        write(folder, b="2")
    assert stored(store) == {"a": b"1", "lock": json.dumps(asdict(alive)).encode()}


@pytest.mark.parametrize("kind", ["old", "dead", "empty", "strange"])
def test_a_lease_that_nobody_holds_is_taken_over(kind, store):
    here = replace(OTHER, machine=lease._machine(), time=time.time())
    left = {
        "old": replace(OTHER, time=time.time() - lease.STALE - 1),
        "dead": replace(here, pid=2**22 + 1),  # above what Linux gives
        "empty": b"",
        "strange": b'{"token": 1}',
    }[kind]
    put_lock(store, left)
    with working_folder(URL) as folder:
        write(folder, a="1")
    assert stored(store) == {"a": b"1"}


def test_of_two_that_take_over_at_once_one_has_it(store, monkeypatch):
    put_lock(store, OTHER)
    monkeypatch.setattr(
        lease.time, "sleep", lambda _: put_lock(store, replace(OTHER, token="quicker"))
    )
    with pytest.raises(HeldError), working_folder(URL):
        pass


def test_a_lease_is_renewed(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.01)
    with leased(store, "/bucket/run/lock", "it"):
        first = json.loads(store.cat("/bucket/run/lock"))
        wait_for(lambda: json.loads(store.cat("/bucket/run/lock"))["time"] > first["time"], 10)
        assert json.loads(store.cat("/bucket/run/lock"))["token"] == first["token"]
    assert not store.exists("/bucket/run/lock")


def test_who_lost_the_lease_stops_and_overwrites_nothing(store, monkeypatch, tmp_path):
    monkeypatch.setattr(lease, "RENEW", 0.01)
    taken = replace(OTHER, time=time.time())

    def wait(folder):
        put_lock(store, taken)
        write(folder, results="mine")
        time.sleep(200)  # interrupted

    with pytest.raises(InputError, match=r"was taken over by another process .host tpu-3"):
        work(wait)
    assert stored(store) == {"lock": json.dumps(asdict(taken)).encode()}
    assert next(tmp_path.glob("jaxprotect-*/run/results")).read_text() == "mine"


def test_a_machine_that_slept_looks_before_it_writes(store, monkeypatch):
    with leased(store, "/bucket/run/lock", "it") as held:
        held.check()
        put_lock(store, OTHER)
        held.check()  # a moment after the last sign of life
        now = time.time()
        monkeypatch.setattr(lease.time, "time", lambda: now + lease.STALE)
        with pytest.raises(LostError):
            held.check()


# The order of uploads.


def in_order(store, folder, monkeypatch, meanwhile=lambda: None):
    """Names in the order in which they are uploaded."""
    done = []

    def noted(real):
        def call(self, first, second, *rest, **options):
            meanwhile()
            real(self, first, second, *rest, **options)
            target = second if real.__name__ == "put_file" else first
            done.append(target.removeprefix("/bucket/run/"))

        return call

    kind = type(store)
    monkeypatch.setattr(kind, "put_file", noted(kind.put_file))
    monkeypatch.setattr(kind, "pipe_file", noted(kind.pipe_file))
    mirror = Mirror(store, "/bucket/run", folder)
    mirror.upload(lambda: None)
    monkeypatch.undo()
    return mirror, done


def fill(folder):
    run, statistics = '{"experiments": {}}', '{"labels": "data"}'
    names = ["summary.json", "report.html", "curve.csv", "mask.npz", "figures/a.png"]
    names += ["tune/results.jsonl", "tune/nats/a.npy", "statistics/eng_Latn/square/d/1"]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    (folder / "tune" / "manifest.json").write_text(run)
    (folder / "statistics" / "manifest.json").write_text(statistics)
    return names


def test_data_goes_before_what_names_it(store, tmp_path, monkeypatch):
    fill(tmp_path / "run")
    _, done = in_order(store, tmp_path / "run", monkeypatch)
    assert done[0] == "tune/manifest.json"
    assert set(done[1:5]) == {
        "figures/a.png", "mask.npz", "statistics/eng_Latn/square/d/1", "tune/nats/a.npy"
    }  # fmt: skip
    assert set(done[5:7]) == {"statistics/manifest.json", "tune/results.jsonl"}
    assert done[7:] == ["curve.csv", "report.html", "summary.json"]


def test_what_is_written_during_an_upload_waits_for_its_data(store, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    names = fill(folder)

    def go_on():
        for name in names:
            if not name.endswith(("npy", "1")):
                (folder / name).write_text("after")

    mirror, _ = in_order(store, folder, monkeypatch, go_on)
    there = stored(store)
    for name in ("tune/results.jsonl", "summary.json", "report.html", "curve.csv"):
        assert there[name] == b"before", name
    mirror.upload(lambda: None)
    assert stored(store)["tune/results.jsonl"] == b"after"


# Whole jobs, killed between any two uploads and continued in another folder.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_inputs(tmp_path_factory.mktemp("inputs"))


def uploading(job, model, url, work, at):
    """Do a job at a URL until its `at`-th operation there; then SIGKILL."""
    remote_folder.SOON, lease.SETTLE, tempfile.tempdir = 0.01, 0.0, work
    count = 0

    def counted(real):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("pipe_file", "put_file", "rm_file"):
        setattr(LocalFileSystem, name, counted(getattr(LocalFileSystem, name)))
    with working_folder(url) as out:
        job(model, out)


JOBS = [
    (run_sweep, 2, 20),
    pytest.param(run_sweep, 25, 12, marks=pytest.mark.slow),
    pytest.param(run_search, 25, 60, marks=pytest.mark.slow),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("job", "kills", "apart"), JOBS)
def test_a_job_killed_between_uploads_goes_on_elsewhere(job, kills, apart, tiny, tmp_path):
    whole, remote, work = tmp_path / "whole" / "run", tmp_path / "bucket" / "run", tmp_path / "work"
    work.mkdir()
    finish(job, tiny, whole)
    expected = {name: data for name, data in results(whole).items() if Path(name).name != "lock"}
    random_, died = random.Random(3), 0
    while True:
        at = random_.randint(1, apart) if died < kills else 0
        child = start(uploading, job, tiny, f"file://{remote}", str(work), at)
        child.join(240)
        died += child.exitcode != 0
        assert child.exitcode in (0, -signal.SIGKILL)
        if child.exitcode == 0:
            assert results(remote) == expected
            if died >= kills:
                return
            remote = remote.with_name(f"run-{died}") / "run"


# The command line.


def test_an_experiment_writes_the_same_files_to_a_url(tiny, tmp_path, monkeypatch, capsys):
    local, remote = tmp_path / "local" / "run", tmp_path / "bucket" / "run"
    texts = str(Path(tiny).with_name("texts"))
    words = ["exp_011", "--model", tiny, "--texts", texts, "--draws", "50", "--fractions", "0.05"]
    for out in (str(local), f"file://{remote}"):
        monkeypatch.setattr(sys, "argv", [*words, "--out", out, "--json"])
        experiment(exp_011.Config, exp_011.run)
        said = capsys.readouterr()
        assert json.loads(said.out)["folder"] == out
        assert f"report: {out}/report.html" in said.err
    files = {
        str(path.relative_to(local)): path.read_bytes()
        for path in local.rglob("*")
        if path.is_file() and path.name != "lock"
    }
    assert "nats/original.npy" in files
    assert files == {
        str(path.relative_to(remote)): path.read_bytes()
        for path in remote.rglob("*")
        if path.is_file()
    }
    (remote / "report.html").unlink()
    main(["report", f"file://{remote}"])
    assert capsys.readouterr().out.strip() == f"file://{remote}/report.html"
    assert (remote / "report.html").read_bytes() == files["report.html"]
    page = tmp_path / "bucket" / "page.html"
    main(["report", f"file://{remote}", str(local), "--out", f"file://{page}"])
    assert capsys.readouterr().out.strip() == f"file://{page}"
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    with pytest.raises(SystemExit):
        main(["report", f"file://{remote.parent}/wrong"])
    assert f"file://{remote.parent}/wrong is not a run folder" in capsys.readouterr().err


def test_a_model_is_packed_to_a_url(tiny, tmp_path, capsys):
    local, remote = tmp_path / "local", tmp_path / "bucket" / "packed"
    for out in (str(local), f"file://{remote}"):
        main(["pack", "--model", tiny, "--bits", "3", "--out", out, "--json"])
        assert json.loads(capsys.readouterr().out)["folder"] == out
    assert {path.name: path.read_bytes() for path in local.iterdir()} == {
        path.name: path.read_bytes() for path in remote.iterdir()
    }
    with pytest.raises(SystemExit) as stopped:
        main(["pack", "--model", tiny, "--bits", "3", "--out", f"file://{remote}"])
    assert stopped.value.code == 2
    assert f"`out` file://{remote} exists already" in capsys.readouterr().err
