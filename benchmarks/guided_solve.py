"""The minimax choice from gains on disk: passes, time, memory."""

from benchmarks.memory import answer_of
from benchmarks.rows import Row, bounded
from benchmarks.shapes import Options


def run(options: Options) -> list[Row]:
    """25 languages, 124 million weights, 1 % to protect: 12.4 GB of gains in files."""
    small = ["--small"] if options.small else []
    found = answer_of("benchmarks.guided_solve_child", *small)
    name = f"minimax choice, {found['languages']} languages x {found['weights']:,} weights"
    rows = [
        bounded(name, "reading the gains once", found["passes"], "passes", 20),
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
    against = f"gains of {found['bytes'] / 1e9:.1f} GB"
    return [*rows, bounded(f"{name}: memory", against, share, "of the gains", 0.25)]
