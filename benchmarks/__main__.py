"""`python -m benchmarks`: every benchmark in a process of its own, and one table.

    python -m benchmarks [--only loss kth_largest] [--repeats 5] [--json]

Nothing is asserted: a figure that misses its goal is a row that says so.
"""

import importlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from benchmarks.memory import answer_of
from benchmarks.rows import Row, as_markdown, measured
from benchmarks.shapes import Options
from jaxprotect.errors import InputError, refuse_unknown

BENCHMARKS = (
    "loss",
    "gradient_statistics",
    "kth_largest",
    "quantization",
    "sweep_overhead",
    "guided_solve",
    "bootstrap",
    "packed_product",
    "large_model",
    "streamed_weights",
    "startup",
    "compile_depth",
)
"""Modules of this folder that have a `run`."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure speed and memory.

    Args:
        only: some of the benchmarks; all by default.
        options: how to measure.
        json: print the rows as JSON.
        here: run in this process; by default each benchmark has one of its own.
    """

    only: tuple[str, ...] = ()
    options: Annotated[Options, tyro.conf.arg(name="")] = Options()
    json: bool = False
    here: bool = False

    def __post_init__(self) -> None:
        """Refuse benchmarks that do not exist."""
        refuse_unknown("only", self.only, BENCHMARKS)
        if self.options.repeats < 1:
            raise InputError(f"`repeats` is {self.options.repeats}; it must be at least 1")


def run(config: Config) -> list[Row]:
    """The rows of the benchmarks asked for."""
    rows = []
    for name in config.only or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = _here(name, config.options) if config.here else _apart(name, config.options)
        for row in found if not config.here else ():
            print(f"  {row.benchmark}: {measured(row)}", file=sys.stderr, flush=True)
        rows += found
    return rows


def machine() -> str:
    """Processor, cores, Python and JAX, in a line."""
    import os

    import jax

    device = jax.devices()[0].device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{platform.machine()}, {cores} cores, device {device}, "
        f"Python {platform.python_version()}, JAX {jax.__version__}"
    )


def _here(name: str, options: Options) -> list[Row]:
    return importlib.import_module(f"benchmarks.{name}").run(options)


def _apart(name: str, options: Options) -> list[Row]:
    small = ("--small",) if options.small else ()
    repeats = ("--repeats", str(options.repeats))
    said = answer_of("benchmarks", "--only", name, "--here", "--json", *repeats, *small)
    return [Row(**row) for row in said["rows"]]


def main() -> None:
    """Entry point; bad input is one line and exit code 2."""
    try:
        config = tyro.cli(Config, prog="python -m benchmarks")
        rows = run(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if config.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}))
    else:
        print(f"{machine()}\n\n{as_markdown(rows)}")


if __name__ == "__main__":
    main()
