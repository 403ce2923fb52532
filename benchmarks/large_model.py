"""Peak memory of evaluating mGPT's shape from a file, random weights."""

import tempfile
from pathlib import Path

from benchmarks.memory import peak_of
from benchmarks.rows import Row, at_most
from benchmarks.shapes import Options


def run(options: Options) -> list[Row]:
    """float32 and float16 files; everything is counted, libraries and the file's pages too."""
    rows = []
    for dtype in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as name:
            folder = str(Path(name) / "model")
            small = ("--small",) if options.small else ()
            weights = peak_of("benchmarks.large_model_memory", "write", folder, dtype, *small)
            peak = peak_of("benchmarks.large_model_memory", "evaluate", folder, *small)
        words, met = at_most(1.5, peak / weights, "of the weights")
        title = f"evaluate mGPT's shape, {dtype} file"
        rows.append(
            Row(
                benchmark=f"{title}: peak memory",
                against=f"weights, {weights / 2**30:.2f} GiB",
                value=peak / weights,
                unit="of the weights",
                goal=words,
                met=met,
            )
        )
        words, met = at_most(12.0, peak / 2**30, "GiB")
        rows.append(
            Row(benchmark=title, against="", value=peak / 2**30, unit="GiB", goal=words, met=met)
        )
    return rows
