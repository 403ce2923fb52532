"""Child processes that run a sweep or a search, and may be killed at any point of it.

Children are forked from a server that has imported everything but started no device, so that one
costs a second and not five.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

import experiments.common as common
import jaxprotect.runs.minimal_run
import jaxprotect.runs.packed_loading  # noqa: F401
from experiments import exp_011
from experiments.common import Setup
from experiments.splits import load_splits
from jaxprotect.models.hub import load_model
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.minimal_run import find_minimal_set
from jaxprotect.runs.results import open_run
from jaxprotect.runs.summary import write_summary
from jaxprotect.runs.sweep import sweep
from jaxprotect.selection.search import Search
from jaxprotect.selection.targets import Target
from tests.tiny import save_tiny_model
from tests.trust.faulty_disk import faulty_disk

SPEC = QuantSpec(bits=3)
LANGUAGES = ("eng_Latn", "heb_Hebr")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.trust.children"])


def save_inputs(folder: Path) -> str:
    """A tiny model, and beside it short sentences, so that few shapes are traced and compiled."""
    (folder / "texts").mkdir(parents=True)
    for language, words in zip(LANGUAGES, ("one red house", "two old trees"), strict=True):
        lines = [f"{words} {index} {chr(97 + index)}" for index in range(18)]
        (folder / "texts" / f"{language}.txt").write_text("\n".join(lines) + "\n")
    return save_tiny_model(folder / "model")


def setup_of(model: str, out: Path, spec: QuantSpec = SPEC) -> Setup:
    """What a child runs on."""
    texts = str(Path(model).with_name("texts"))
    return Setup(model=model, texts=texts, draws=50, out=out, spec=spec)


def run_sweep(model: str, out: Path) -> None:
    """A sweep over 21 variants, and its summary."""
    setup = setup_of(model, out)
    fractions = tuple(round(0.01 * (1 + index), 2) for index in range(20))
    config = exp_011.Config(setup=setup, fractions=fractions)
    loaded, texts, encoded = common.load_inputs(setup)
    variants = exp_011.variants(config, loaded)
    names = {"exp_011": [variant.name for variant in variants]}
    with open_run(out, common.manifest(setup, loaded, texts, names)) as run:
        write_summary(sweep(run, loaded, encoded, variants, draws=setup.draws))


def run_search(model: str, out: Path) -> None:
    """A search for a minimal set, its statistics included."""
    search = Search(criterion="fisher_delta", precision=1.05, draws=50, max_fraction=0.9)
    texts = load_splits(setup_of(model, out))
    find_minimal_set(load_model(model), texts, SPEC, Target(share=0.5), out=out, search=search)


def start(job: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """A child that does a job."""
    child = SERVER.Process(target=_run, args=(job, *arguments))
    child.start()
    return child


def finish(job: Callable[..., None], *arguments: object) -> None:
    """Do a job in a child that nothing disturbs."""
    child = start(job, *arguments)
    child.join(240)
    assert child.exitcode == 0, child.exitcode


def _run(job: Callable[..., None], *arguments: object) -> None:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    job(*arguments)


def dying(job: Callable[..., None], model: str, out: Path, at: int) -> None:
    """Do a job until its `at`-th operation on files; then SIGKILL, in the middle of a write."""
    with faulty_disk(out, lambda count: count == at, _kill_self):
        job(model, out)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_often(
    job: Callable[..., None], model: str, folder: Path, *, kills: int, seed: int, apart: int
) -> Iterator[Path]:
    """Run a job again and again, each child killed and followed by the next.

    Args:
        job: fills a folder from a model.
        model: its model.
        folder: where the outs are made; a new one whenever one is finished.
        kills: how many children must have died of SIGKILL.
        seed: of the points.
        apart: most operations on files that a child does.

    Yields:
        Every finished out.
    """
    random_ = random.Random(seed)
    died, number = 0, 0
    while died < kills:
        out = folder / f"killed-{number}"
        if died % 5 == 4:  # anywhere, not only at files
            child = start(job, model, out)
            child.join(random_.uniform(0.05, 3.0))
            child.kill()
        else:
            child = start(dying, job, model, out, random_.randint(1, apart))
        child.join(240)
        assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
        died += child.exitcode != 0
        if child.exitcode == 0:
            number += 1
            yield out
    finish(job, model, out)
    yield out


def results(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, without Orbax's folders (their checksums are in the manifest)."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not set(LANGUAGES) & set(path.relative_to(folder).parts)
        and not path.name.endswith(".tmp")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts[:-1])
    }


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def running(job: Callable[..., None], *arguments: object):
    """A child, killed at the end if it still runs."""
    child = start(job, *arguments)
    try:
        yield child
    finally:
        child.kill()
        child.join(60)
