"""One of two hosts that end, or find a folder, in an unusual way.

    python -m tests.hosts_child JOB PORT PROCESS FOLDER

It ends with 0 where all is as it should be.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jaxprotect import hosts
from jaxprotect.endings import end_in_one_line
from jaxprotect.host_start import Hosts, joined
from jaxprotect.runs.host_folder import hosts_folder

TIME = 12.0
"""Seconds of a last upload: more than a host that fails waits for the others."""


def uploads(folder: Path) -> None:
    """The first host closes its folder for a long time; the other one is to live as long."""
    with hosts_folder(lambda: _slow(folder)):
        pass
    assert (folder / "uploaded").exists()


def terminated(folder: Path) -> None:
    """As `uploads`, after a signal."""
    try:
        with hosts_folder(lambda: _slow(folder)):
            raise hosts.Terminated
    finally:
        assert (folder / "uploaded").exists()


@contextlib.contextmanager
def _slow(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    finally:
        time.sleep(TIME)
        (folder / "uploaded").touch()


def mistake(folder: Path) -> None:
    """A mistake of the program that one host alone runs into."""
    with hosts_folder(lambda: contextlib.nullcontext(folder)):
        if not hosts.is_first():
            raise ZeroDivisionError("only here")
        hosts.told(lambda: 1)


def takes_long(folder: Path) -> None:
    """What the first host finds takes longer than a broadcast waits."""
    assert hosts.told(lambda: time.sleep(40) or 7) == 7


def shared(folder: Path) -> None:
    """Other jobs finish rows and statistics after the folder was copied."""
    # These compute, which is allowed only once the hosts have found each other.
    from jaxprotect.runs.results import open_run, read_run
    from jaxprotect.runs.statistics_store import PARTS, read_store
    from tests.runs.test_results import MANIFEST as RUN
    from tests.runs.test_statistics_store import LANGUAGES, MODEL, fresh

    with hosts_folder(lambda: contextlib.nullcontext(folder)) as mine:
        with open_run(mine / "run", RUN) as run:
            assert run.rows == ()
        store = fresh(mine / "statistics")
        assert store.languages == ()
        if hosts.is_first():
            row = {"variant": "a", "language": LANGUAGES[0]}
            lines = [json.dumps(row | {"language": name}) for name in LANGUAGES]
            (mine / "run" / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
            entry = {
                "sentences": 1,
                "tokens": 1,
                "nats": 1.0,
                "sha256": {part: {} for part in PARTS},
            }
            done = store.manifest | {"languages": {"eng_Latn": entry}}
            (store.folder / "manifest.json").write_text(json.dumps(done))
        hosts.told(lambda: 0)  # after which the first host has written
        with open_run(mine / "run", RUN) as run:
            assert [row["language"] for row in run.rows] == list(LANGUAGES)
            assert read_run(mine / "run").rows == run.rows
        assert fresh(mine / "statistics").languages == ("eng_Latn",)
        assert read_store(mine / "statistics", MODEL).languages == ("eng_Latn",)


if __name__ == "__main__":
    job, port, process, folder = sys.argv[1:]
    who = Hosts(coordinator=f"127.0.0.1:{port}", processes=2, process=int(process))

    def run_job() -> None:
        with joined(who):
            globals()[job](Path(folder))

    end_in_one_line(run_job)
