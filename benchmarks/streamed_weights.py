"""Evaluating with the weights in their files, block by block, and with them in memory."""

import tempfile
from pathlib import Path

from benchmarks.memory import answer_of
from benchmarks.rows import Row, bounded
from benchmarks.shapes import Options

CHILD = "benchmarks.streamed_weights_child"


def run(options: Options) -> list[Row]:
    """Peak of the whole process, libraries too, and seconds; both ways say the same."""
    rows = []
    small = ("--small",) if options.small else ()
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name) / "model")
        weights = answer_of(CHILD, "write", folder, *small)["bytes"]
        against = f"float32 weights, {weights / 2**30:.2f} GiB"
        for what in ("evaluate", "quantize"):
            found = {place: answer_of(CHILD, place, folder, what) for place in ("files", "memory")}
            assert found["files"]["said"] == found["memory"]["said"]
            share = {place: answer["peak"] / weights for place, answer in found.items()}
            title = f"{what} from files: peak memory"
            rows.append(bounded(title, against, share["files"], "of them", 0.5))
            title = f"{what} in memory: peak memory"
            rows.append(
                Row(benchmark=title, against=against, value=share["memory"], unit="of them")
            )
            seconds = {place: answer["seconds"] for place, answer in found.items()}
            ratio = seconds["files"] / seconds["memory"]
            beside = f"in memory, {seconds['memory']:.1f} s"
            rows.append(bounded(f"{what} from files: time", beside, ratio, "of it", 2.0))
    return rows
