"""Full, read-only and broken disks: one line, finished rows stay, the next run ends the same."""

import errno
import os
import resource

import jax
import pytest

from experiments import exp_011
from experiments.command_line import main as experiment
from jaxprotect import disk
from jaxprotect.cli import main
from jaxprotect.endings import end_in_one_line
from jaxprotect.errors import InputError
from jaxprotect.models.hub import load_model
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.packed_files import pack
from jaxprotect.runs.results import (
    ORIGINAL,
    append_variant,
    open_run,
    read_run,
    save_original,
    write_atomically,
)
from jaxprotect.runs.scratch import scratch_in
from jaxprotect.selection import masks
from tests.runs.synthetic import make_run, only
from tests.trust.children import finish, results, run_search, run_sweep, save_inputs, start
from tests.trust.faulty_disk import faulty_disk

PLAN = only("none", "magnitude-0.05", "head-0-0")


def refuse(number):
    def fail():
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a made-up run leaves, and how many operations on files it takes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with faulty_disk(folder, lambda count: False, refuse(errno.ENOSPC)) as count:
        run = make_run(folder, PLAN)
    assert count() > 20
    return run, count()


def go_on(folder, whole):
    """Continue a made-up run with what a finished one has."""
    with open_run(folder, whole.manifest) as run:
        if not run.has_original:
            save_original(run, whole.evaluation(ORIGINAL))
        for name in whole.variants:
            if name not in run.variants:
                rows = [row for row in whole.rows if row["variant"] == name]
                run = append_variant(run, name, whole.evaluation(name), rows)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_any_operation_is_named_and_nothing_is_lost(number, whole, tmp_path):
    finished, operations = whole
    contents = results(finished.folder)
    for first in range(1, operations + 1):
        folder = tmp_path / str(first) / "run"
        folder.parent.mkdir()
        with (
            faulty_disk(folder, lambda count, first=first: count >= first, refuse(number)),
            pytest.raises(InputError) as refused,
        ):
            make_run(folder, PLAN)
        line = str(refused.value)
        assert str(folder) in line
        assert os.strerror(number) in line
        assert disk.ADVICE[number] in line
        assert "\n" not in line
        if (folder / "results.jsonl").exists():
            rows = (folder / "results.jsonl").read_bytes()
            assert contents["results.jsonl"].startswith(rows)
            assert not rows or rows.endswith(b"\n")
        assert not list(folder.rglob("*.tmp")) if folder.exists() else True
        go_on(folder, finished)
        assert results(folder) == contents, first


def test_rows_that_do_not_fit_leave_the_file_as_it_was(tmp_path):
    """The process may go on: no half row stays before the rows of the next variant."""
    run = make_run(tmp_path / "run", only("none", "layers-0"))
    before = (run.folder / "results.jsonl").read_bytes()
    rows = [{"variant": "new", "language": name} for name in run.manifest["texts"]["languages"]]
    evaluation = run.evaluation("none")

    def is_append(count):
        return count == 7  # folder, open, write, fsync, rename of the nats; open; write

    with (
        faulty_disk(run.folder, is_append, refuse(errno.ENOSPC)) as count,
        pytest.raises(InputError, match=r"results\.jsonl cannot be written: No space left"),
    ):
        append_variant(run, "new", evaluation, rows)
    assert count() == 7
    assert (run.folder / "results.jsonl").read_bytes() == before
    append_variant(run, "new", evaluation, rows)
    assert read_run(run.folder).variants == ["none", "layers-0", "new"]


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    write_atomically(tmp_path / "file", b"old")
    for first in range(1, 6):
        with (
            faulty_disk(tmp_path, lambda count, n=first: count >= n, refuse(errno.ENOSPC)),
            pytest.raises(InputError),
        ):
            write_atomically(tmp_path / "file", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_packed_model_is_whole_or_absent_wherever_the_disk_fails(number, tiny, tmp_path):
    model = load_model(tiny)
    mask = masks.by_magnitude(model.params, fraction=0.01)
    for first in (1, 2, 4, 6, 9):
        folder = tmp_path / str(first) / "packed"
        with (
            faulty_disk(folder.parent, lambda count, n=first: count >= n, refuse(number)) as count,
            pytest.raises(InputError, match=os.strerror(number)),
        ):
            pack(folder, model, mask, QuantSpec())
        assert count() >= first
        assert not folder.parent.exists() or list(folder.parent.iterdir()) == []
        pack(folder, model, mask, QuantSpec())
        assert [path.name for path in folder.parent.iterdir()] == ["packed"]


def limited(job, limit, *arguments):
    """Do a job in which no file may grow beyond a limit; the one line goes to a file."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # nor half a program
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    job(*arguments)


def command(job, line, *arguments):
    """A job as a command, its standard error in a file."""
    descriptor = os.open(line, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    end_in_one_line(lambda: job(*arguments))


def last_line(path):
    return path.read_text().strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "limit"), [(run_sweep, 10_000), (run_search, 60_000)])
def test_files_that_really_cannot_grow_end_the_command_and_it_goes_on(job, limit, tiny, tmp_path):
    """Not injected: the system refuses, in Orbax's C++ too."""
    folder, line = tmp_path / "run", tmp_path / "line"
    child = start(command, limited, line, job, limit, tiny, folder)
    child.join(120)
    assert child.exitcode == 2, line.read_text()
    assert "Traceback" not in line.read_text(), line.read_text()
    assert last_line(line).startswith(f"error: {folder}")
    assert "File too large; make room" in last_line(line)
    finish(job, tiny, folder)
    finish(job, tiny, tmp_path / "whole")
    assert results(folder) == results(tmp_path / "whole")


@pytest.fixture(params=["sensitivity", "minimal-set", "pack", "export", "experiment"])
def ending(request, tiny, monkeypatch, capsys):
    """A command in which the folder is given, and its last line."""

    def end(folder):
        given = ["--model", tiny, "--out", str(folder)]
        texts = ["--languages", "eng_Latn", "heb_Hebr", "--draws", "50"]
        more = {"minimal-set": [*texts, "--share", "0.5"], "sensitivity": texts[:3]}
        monkeypatch.setattr("sys.argv", ["exp_011", *given, *texts])
        command = (
            (lambda: experiment(exp_011.Config, exp_011.run))
            if request.param == "experiment"
            else (lambda: main([request.param, *given, *more.get(request.param, [])]))
        )
        with pytest.raises(SystemExit) as stopped:
            command()
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return end


def test_a_folder_that_cannot_be_made_is_named_by_every_command(ending, tmp_path):
    (tmp_path / "file").write_text("mine")
    for parent in (tmp_path / "file", "/proc"):
        line = ending(f"{parent}/out")
        assert line.startswith(f"error: {parent}")
        assert "cannot be made" in line
        assert "give a folder that can be written" in line


def test_a_read_only_folder_is_named_by_every_command(ending, tmp_path):
    folder = tmp_path / "read-only" / "out"
    folder.parent.mkdir()
    folder.parent.chmod(0o500)  # enough for everybody but root
    with faulty_disk(folder.parent, lambda count: True, refuse(errno.EACCES)):
        line = ending(folder)
    assert line.startswith(f"error: {folder.parent}")
    assert "Permission denied; give a folder that can be written" in line


def test_errors_of_other_languages_are_understood():
    rust = Exception("I/O error: No space left on device (os error 28)")
    tensorstore = ValueError("Failed to write 46 bytes: No space [os_error_code='28']")
    for error in (rust, tensorstore, OSError(errno.ENOSPC, "full")):
        assert disk.disk_trouble(error).startswith("No space left on device; make room")
    for error in (ValueError("28"), FileNotFoundError(errno.ENOENT, "missing"), OSError("os")):
        assert disk.disk_trouble(error) is None


def test_a_scratch_file_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def refused(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=f"{tmp_path} has no room"):
        scratch_in(tmp_path, large=1)((10,))
