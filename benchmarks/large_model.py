"""Peak memory of evaluating mGPT's shape from a file, random weights."""

import tempfile
from pathlib import Path

from benchmarks.memory import peak_of
from benchmarks.rows import Row, bounded
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
        title = f"evaluate mGPT's shape, {dtype} file"
        against = f"weights, {weights / 2**30:.2f} GiB"
        share = peak / weights
        rows.append(bounded(f"{title}: peak memory", against, share, "of the weights", 1.5))
        rows.append(bounded(title, "", peak / 2**30, "GiB", 12.0))
    return rows
