"""Too little memory names a smaller batch; a clock that falls changes nothing."""

import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.common import Setup, load_inputs, manifest
from jaxprotect.endings import end_in_one_line
from jaxprotect.errors import InputError
from jaxprotect.evaluation import evaluate as evaluate_module
from jaxprotect.evaluation.batches import Batch
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs import sweep as sweep_module
from jaxprotect.runs.results import open_run, read_run
from jaxprotect.runs.summary import write_summary
from jaxprotect.runs.sweep import Variant, sweep
from jaxprotect.selection import masks
from jaxprotect.selection import sensitivity as sensitivity_module
from jaxprotect.selection.sensitivity import language_statistics
from tests.selection.test_sensitivity import ENCODED
from tests.tiny import CONFIG, random_params, save_tiny_model
from tests.trust.children import results

OUT_OF_MEMORY = (
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes."),
    MemoryError("Unable to allocate 9 TiB"),
)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Two languages on a tiny model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return Setup(
        model=save_tiny_model(folder), languages=("eng_Latn", "heb_Hebr"), draws=50, split="test"
    )


def run(setup, out, batch_tokens=4096):
    """A sweep over three shares."""
    setup = replace(setup, batch_tokens=batch_tokens)
    model, texts, encoded = load_inputs(setup)
    variants = [
        Variant(
            name=f"magnitude-{share}",
            intervention={"kind": "magnitude", "fraction": share},
            spec=QuantSpec(bits=3),
            mask=lambda params, share=share: masks.by_magnitude(params, fraction=share),
        )
        for share in (0.1, 0.2, 0.3)
    ]
    names = {"shares": [variant.name for variant in variants]}
    with open_run(out, manifest(setup, model, texts, names)) as opened:
        write_summary(sweep(opened, model, encoded, variants, draws=50))
    return encoded


def exhausting(monkeypatch, module, name, error, *, from_call):
    """A function that has no memory from one of its calls on."""
    real, calls = getattr(module, name), []

    def call(*args, **options):
        calls.append(1)
        if len(calls) >= from_call:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host"])
def test_a_sweep_without_memory_keeps_its_rows_and_goes_on_in_smaller_batches(
    error, setup, tmp_path, monkeypatch
):
    whole = run(setup, tmp_path / "whole")
    batches = len(whole.batches)
    largest = max(batch.tokens.size for batch in whole.batches)
    exhausting(monkeypatch, evaluate_module, "batch_nats", error, from_call=2 * batches + 1)
    with pytest.raises(InputError, match=f"try `batch_tokens` {largest // 2}$") as refused:
        run(setup, tmp_path / "run")
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    kept = (tmp_path / "run" / "results.jsonl").read_bytes()
    assert read_run(tmp_path / "run").variants == ["magnitude-0.1"]
    smaller = run(setup, tmp_path / "run", batch_tokens=largest // 2)
    assert max(batch.tokens.size for batch in smaller.batches) <= largest // 2
    found, other = read_run(tmp_path / "run"), read_run(tmp_path / "whole")
    assert (tmp_path / "run" / "results.jsonl").read_bytes().startswith(kept)
    assert found.variants == other.variants
    for name in found.variants:
        for language, nats in other.evaluation(name).nats.items():
            np.testing.assert_allclose(found.evaluation(name).nats[language], nats, rtol=1e-5)


def test_a_sweep_without_memory_continued_in_the_same_batches_ends_the_same(
    setup, tmp_path, monkeypatch
):
    batches = len(run(setup, tmp_path / "whole").batches)
    exhausting(monkeypatch, evaluate_module, "batch_nats", OUT_OF_MEMORY[0], from_call=3 * batches)
    with pytest.raises(InputError, match="out of memory"):
        run(setup, tmp_path / "run")
    monkeypatch.undo()
    run(setup, tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host"])
def test_gradients_without_memory_name_a_smaller_batch(error, monkeypatch):
    exhausting(monkeypatch, sensitivity_module, "row_statistics", error, from_call=1)
    with pytest.raises(InputError, match=r"in a batch of \d+ x \d+ tokens.*`batch_tokens` \d+$"):
        language_statistics(random_params(CONFIG), ENCODED, CONFIG, language="eng_Latn")


def test_one_row_that_is_too_large_is_not_blamed_on_the_batch(monkeypatch):
    batch = ENCODED.batches[0]
    row = {name: value[:1] for name, value in vars(batch).items()}
    exhausting(monkeypatch, evaluate_module, "batch_nats", OUT_OF_MEMORY[0], from_call=1)
    with pytest.raises(InputError, match="a smaller `batch_tokens` cannot help"):
        evaluate_module.evaluate_encoded({}, replace(ENCODED, batches=(Batch(**row),)), CONFIG)


def test_other_errors_of_the_device_are_not_taken_for_it(monkeypatch):
    error = jax.errors.JaxRuntimeError("INTERNAL: something else")
    exhausting(monkeypatch, evaluate_module, "batch_nats", error, from_call=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        evaluate_module.evaluate_encoded({}, ENCODED, CONFIG)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host"])
def test_memory_that_ends_elsewhere_is_one_line_too(error, setup, tmp_path, monkeypatch, capsys):
    exhausting(monkeypatch, sweep_module, "quantize_tree", error, from_call=2)
    with pytest.raises(SystemExit) as stopped:
        end_in_one_line(lambda: run(setup, tmp_path / "run"))
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: out of memory; what is finished is kept")
    assert read_run(tmp_path / "run").variants == ["magnitude-0.1"]


@pytest.mark.parametrize("start", [1.8e9, 0.0], ids=["falls", "before 1970"])
def test_a_clock_that_runs_backwards_changes_nothing(start, setup, tmp_path, monkeypatch):
    run(setup, tmp_path / "whole")
    now = [start]

    def falling(scale=1.0):
        now[0] -= 1000.0
        return now[0] * scale

    monkeypatch.setattr(time, "time", falling)
    monkeypatch.setattr(time, "time_ns", lambda: int(falling(1e9)))
    with monkeypatch.context() as stopping:
        exhausting(stopping, sweep_module, "measure", KeyboardInterrupt(), from_call=2)
        with pytest.raises(KeyboardInterrupt):
            run(setup, tmp_path / "run")
    run(setup, tmp_path / "run")
    time.time()
    assert now[0] < start  # it does fall
    assert results(tmp_path / "run") == results(tmp_path / "whole")
