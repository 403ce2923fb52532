"""The minimax choice from gains on disk: passes, time, memory."""

import json
import subprocess
import sys

from benchmarks.rows import Row, at_most
from benchmarks.shapes import Options


def run(options: Options) -> list[Row]:
    """25 languages, 124 million weights, 1 % to protect: 12.4 GB of gains in files."""
    small = ["--small"] if options.small else []
    command = [sys.executable, "-m", "benchmarks.guided_solve_child", *small]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"minimax choice, {found['languages']} languages x {found['weights']:,} weights"
    words, met = at_most(20, found["passes"], "passes")
    rows = [
        Row(
            benchmark=name,
            against="reading the gains once",
            value=found["passes"],
            unit="passes",
            goal=words,
            met=met,
        ),
        Row(
            benchmark=f"{name}: worst over its bound",
            against="the dual",
            value=100 * found["gap"],
            unit="% above",
        ),
        Row(benchmark=f"{name}: time of all", against="", value=found["seconds"], unit="s"),
        Row(
            benchmark=f"{name}: time of all",
            against="reading the gains once",
            value=found["seconds"] / found["read"],
            unit="x",
        ),
    ]
    share = found["memory"] / found["bytes"]
    words, met = at_most(0.25, share, "of the gains")
    rows.append(
        Row(
            benchmark=f"{name}: memory",
            against=f"gains of {found['bytes'] / 1e9:.1f} GB",
            value=share,
            unit="of the gains",
            goal=words,
            met=met,
        )
    )
    return rows
