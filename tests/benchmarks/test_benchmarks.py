"""Benchmarks run, count and compare what they say; how fast things are is never asserted."""

import importlib
import time

import jax
import jax.numpy as jnp
import pytest

from benchmarks.__main__ import BENCHMARKS, Config
from benchmarks.compilations import compilations
from benchmarks.memory import resident
from benchmarks.rows import Row, as_markdown, at_least, at_most, measured, share, speedup
from benchmarks.shapes import Options, gpt2, matrix_products
from benchmarks.timing import Timings, interleaved
from jaxprotect.errors import InputError

SLOW = {
    "compile_depth",
    "gradient_statistics",
    "large_model",
    "loss",
    "packed_product",
    "streamed_weights",
    "sweep_overhead",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in BENCHMARKS]
)
def test_every_benchmark_runs_on_small_shapes(name):
    rows = importlib.import_module(f"benchmarks.{name}").run(Options(repeats=1, small=True))
    assert rows
    assert all(row.value == row.value for row in rows)
    assert all((row.goal == "") == (row.met is None) for row in rows)


def test_candidates_take_turns():
    calls = []
    timed = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.01))},
        repeats=3,
    )
    assert calls == ["a", "b"] * 4  # the first round is not timed
    assert [len(seconds) for seconds in timed.seconds.values()] == [3, 3]
    assert timed.median("b") >= 0.01


def test_ratios_are_of_the_same_round():
    timed = Timings(seconds={"slow": [2.0, 40.0, 9.0], "fast": [1.0, 10.0, 3.0]})
    assert timed.ratio("slow", "fast") == (3.0, 2.0, 4.0)
    assert timed.median("slow") == 9.0


def test_goals_say_whether_they_are_met():
    assert at_least(2.0, 1.9) == (">= 2 x", False)
    assert at_most(0.5, 0.4, "s") == ("<= 0.5 s", True)
    assert share("a", "b", 0.81, 0.8).met
    assert share("a", "b", 0.81, 0.8).goal == ">= 80 %"
    row = speedup("a", "b", (1.5, 1.4, 1.6), 2.0)
    assert row.met is False
    assert measured(row) == "1.5 x [1.4, 1.6]"
    assert measured(Row(benchmark="a", against="", value=12345.6, unit="tokens/s")) == (
        "12,346 tokens/s"
    )
    assert as_markdown([row]).splitlines()[-1] == "| a | b | 1.5 x [1.4, 1.6] | >= 2 x | no |"


def test_compilations_are_counted_by_name():
    def doubled(x):
        return 2 * x

    run = jax.jit(doubled)
    with compilations("doubled") as found:
        run(jnp.ones(3))
        run(jnp.zeros(3))
        run(jnp.ones(4))
        jax.jit(lambda x: x + 1)(jnp.ones(3))
    assert found.count == 2


def test_operations_of_a_forward_pass():
    config = gpt2(Options())
    # Blocks of GPT-2: 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072) weights.
    assert matrix_products(config, 1, 0, 0) == 2 * 84_934_656
    assert matrix_products(config, 0, 0, 1) == 2 * 768 * 50257
    assert matrix_products(config, 10, 10, 0) - matrix_products(config, 10, 0, 0) == (
        4 * 10 * 10 * 768 * 12
    )


def test_resident_memory_is_in_bytes():
    assert 50 * 2**20 < resident() < 100 * 2**30


def test_bad_input():
    with pytest.raises(InputError, match="`only` has 'speed'; allowed are loss"):
        Config(only=("speed",))
    with pytest.raises(InputError, match="`repeats` is 0"):
        Config(options=Options(repeats=0))
