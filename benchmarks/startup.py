"""How long `jaxprotect --help` takes to answer."""

import subprocess
import sys
from typing import Any

from benchmarks.rows import Row, at_most
from benchmarks.shapes import Options
from benchmarks.timing import interleaved


def run(options: Options) -> list[Row]:
    """Beside a bare `import numpy`."""

    def seconds(*arguments: str) -> Any:
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, check=True).returncode

    timed = interleaved(
        {
            "help": lambda: seconds("-m", "jaxprotect.cli", "--help"),
            "numpy": lambda: seconds("-c", "import numpy"),
        },
        repeats=options.repeats,
    )
    more = timed.median("help") - timed.median("numpy")
    words, met = at_most(0.5, more, "s more")
    return [
        Row(
            benchmark="jaxprotect --help",
            against="import numpy",
            value=more,
            unit="s more",
            goal=words,
            met=met,
        )
    ]
