"""How long `jaxprotect --help` takes to answer."""

import subprocess
import sys
from typing import Any

from benchmarks.rows import Row, bounded
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
    return [bounded("jaxprotect --help", "import numpy", more, "s more", 0.5)]
