"""Several hosts as one job: two processes find what one finds, and what they refuse."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxprotect import hosts
from jaxprotect.errors import InputError
from jaxprotect.host_start import Hosts, joined
from tests.trust.children import save_inputs

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "jaxprotect.cli")
FLAGS = (
    "--xla_force_host_platform_device_count=2"
    " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(port: int, process: int, *words: str) -> subprocess.Popen[str]:
    """One of two hosts, with two devices."""
    who = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(process)]
    return subprocess.Popen(
        [*COMMAND, *words, *who],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS},
    )


def on_two(*words: str) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, standard outputs and errors of two hosts."""
    port = free_port()
    both = [start(port, process, *words) for process in (0, 1)]
    ends = [host.communicate(timeout=600) for host in both]
    return [host.returncode for host in both], [e[0] for e in ends], [e[1] for e in ends]


def on_one(*words: str, devices: int = 1) -> str:
    """Standard output of one host."""
    flags = {"XLA_FLAGS": FLAGS.replace("count=2", f"count={devices}"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, cwd=ROOT, env=os.environ | flags
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def close(one: object, other: object) -> bool:
    """The same but for the last digits of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=1e-3, atol=1e-5))
    return one == other


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[str, ...]:
    """Options for a tiny model and its texts."""
    folder = tmp_path_factory.mktemp("inputs")
    save_inputs(folder)
    return ("--model", str(folder / "model"), "--texts", str(folder / "texts"))


def test_two_hosts_measure_what_one_measures(inputs):
    words = ("evaluate", *inputs, "--split", "all", "--quantize", "--protect", "0.05", "--json")
    codes, said, errors = on_two(*words, "--mesh", "data=2,model=2")
    assert codes == [0, 0], errors
    assert said[1] == ""  # the first host speaks
    assert close(json.loads(on_one(*words)), json.loads(said[0]))


@pytest.mark.slow
def test_two_hosts_find_the_minimal_set_that_one_finds_on_the_same_mesh(tmp_path):
    words = ("minimal-set", "--languages", "eng_Latn", "tam_Taml", "--share", "0.6", "--bits", "3")
    words += ("--mesh", "data=1,model=4")
    codes, _, errors = on_two(*words, "--out", str(tmp_path / "two"))
    assert codes == [0, 0], errors
    on_one(*words, "--out", str(tmp_path / "one"), devices=4)
    for name in ("tune/results.jsonl", "curve.csv", "damages.csv", "mask.npz"):
        one, two = (tmp_path / of / name for of in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name
    one, two = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    )
    assert close(one, two)


@pytest.mark.slow
def test_a_signal_to_one_host_ends_both_and_the_same_command_goes_on(tmp_path):
    out = tmp_path / "out"
    words = ("sensitivity", "--bits", "3", "--mesh", "data=2,model=2", "--out", str(out))
    port = free_port()
    both = [start(port, process, *words) for process in (0, 1)]
    manifest = out / "statistics" / "manifest.json"
    while not (manifest.exists() and json.loads(manifest.read_text())["languages"]):
        time.sleep(0.2)
        assert all(host.poll() is None for host in both)
    both[1].send_signal(signal.SIGTERM)
    ends = [host.communicate(timeout=300) for host in both]
    assert [host.returncode for host in both] == [143, 143], ends
    assert "terminated; give the same command again" in ends[0][1]
    kept = json.loads(manifest.read_text())["languages"]
    assert 1 <= len(kept) < 14
    on_one(*words[:3], "--out", str(out))
    now = json.loads(manifest.read_text())["languages"]
    assert len(now) == 14
    assert {name: now[name] for name in kept} == kept


def children(job: str, folder: Path) -> tuple[list[int], list[str]]:
    """Exit codes and errors of two hosts that do a job of `hosts_child`."""
    port = free_port()
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hosts_child", job, str(port), str(process), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for process in (0, 1)
    ]
    errors = [host.communicate(timeout=300)[1] for host in both]
    return [host.returncode for host in both], errors


def test_rows_and_statistics_that_other_jobs_finish_are_seen_by_all_hosts(tmp_path):
    codes, errors = children("shared", tmp_path)
    assert codes == [0, 0], errors


@pytest.mark.slow
def test_a_mistake_on_one_host_is_its_traceback_and_ends_the_other(tmp_path):
    codes, errors = children("mistake", tmp_path)
    assert codes == [134, 1]
    assert "ZeroDivisionError: only here" in errors[1]
    assert "another host was lost" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "code"), [("uploads", 0), ("terminated", 143), ("takes_long", 0)])
def test_the_first_host_may_take_its_time(job, code, tmp_path):
    codes, errors = children(job, tmp_path)
    assert codes == [code, code], errors


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_ends_the_other_and_the_same_command_goes_on(lost, inputs, tmp_path):
    words = ("sensitivity", *inputs, "--bits", "3", "--mesh", "data=2,model=2")
    port, out = free_port(), tmp_path / "out"
    both = [start(port, process, *words, "--out", str(out)) for process in (0, 1)]
    manifest = out / "statistics" / "manifest.json"
    while not (manifest.exists() and json.loads(manifest.read_text())["languages"]):
        time.sleep(0.02)
        assert all(host.poll() is None for host in both)
    both[lost].kill()
    errors = [host.communicate(timeout=300)[1] for host in both]
    # JAX's runtime may end the other one first, by SIGABRT, which a shell calls 134 as well.
    assert both[1 - lost].returncode in (134, -signal.SIGABRT), errors
    kept = json.loads(manifest.read_text())["languages"]
    assert list(kept) == ["eng_Latn"]
    on_one(*words, "--out", str(out), devices=4)
    on_one(*words, "--out", str(tmp_path / "whole"), devices=4)
    now, whole = (
        json.loads((of / "statistics" / "manifest.json").read_text())["languages"]
        for of in (out, tmp_path / "whole")
    )
    assert now == whole  # with the checksums of all leaves
    assert now["eng_Latn"] == kept["eng_Latn"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes": 2}, "`processes` is 2; it is allowed with a `coordinator`"),
        ({"coordinator": "auto", "process": 0}, "`process` is 0; it is allowed with a"),
        ({"coordinator": "a:1", "process": 0}, "`processes` is not given; `coordinator` a:1 needs"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "allowed are 0 to 1"),
        ({"coordinator": "a", "processes": 2, "process": 1}, "allowed are HOST:PORT"),
        ({"coordinator": "a:1", "processes": 0, "process": 0}, "`processes` is 0; it must be"),
        ({"patience": 0}, "`patience` is 0; it must be at least 1 second"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message), joined(Hosts(**options)):
        pass


def test_a_coordinator_that_nobody_started_is_named_in_time():
    port = free_port()
    hosts_of = Hosts(coordinator=f"127.0.0.1:{port}", processes=2, process=1, patience=1)
    expected = rf"`coordinator` 127.0.0.1:{port} cannot be reached within 1 s \(`patience`\)"
    with pytest.raises(InputError, match=expected), joined(hosts_of):
        pass


@pytest.mark.parametrize("named", [True, False])
def test_hosts_that_do_not_come_are_waited_for_in_vain(named):
    port = free_port()
    who = ["auto"]
    slurm = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    slurm |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "2"}
    if named:
        slurm, who = {}, [f"127.0.0.1:{port}", "--processes", "2", "--process", "0"]
    done = subprocess.run(
        [*COMMAND, "evaluate", "--patience", "1", "--coordinator", *who],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | slurm,
    )
    at = rf"127\.0\.0\.1:{port}: the 2 processes, of which this is 0"
    at = at if named else r"localhost:\d+ \(auto\): the 2 processes, of which this is 1"
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        rf"error: `coordinator` {at}, did not find each other within 1 s \(`patience`\); .*\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("launcher", "devices"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2"}, []),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, None),  # one GPU each
        ({"SLURM_NTASKS": "8"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, None),
    ],
)
def test_a_process_that_is_alone_on_its_host_has_all_its_devices(launcher, devices, monkeypatch):
    given = {}
    monkeypatch.setattr("jax.distributed.initialize", lambda **found: given.update(found))
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with joined(Hosts(coordinator="auto")):
        pass
    assert given["local_device_ids"] == devices


def test_no_cluster_that_says_who_the_hosts_are(monkeypatch):
    def none_found(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", none_found)
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    with (
        pytest.raises(InputError, match="is auto, but no cluster"),
        joined(Hosts(coordinator="auto")),
    ):
        pass


def test_one_host_asks_nobody():
    assert not hosts.several()
    assert hosts.is_first()
    assert hosts.told(lambda: {"a": 1}) == {"a": 1}
    assert hosts.told_bytes(b"x") == b"x"
    hosts.safe_point()
