"""Peak memory of a piece of work, in a process of its own."""

import json
import resource
import subprocess
import sys
from typing import Any


def resident() -> int:
    """Most bytes that this process has had in memory so far."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def report(number: int) -> None:
    """Print what `peak_of` reads; at least a byte, so that it can be divided by."""
    print(json.dumps({"bytes": max(1, number)}), flush=True)


def answer_of(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that `python -m module arguments` prints as its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_of(module: str, *arguments: str) -> int:
    """The bytes that a module says by `report`, see `answer_of`."""
    return answer_of(module, *arguments)["bytes"]
