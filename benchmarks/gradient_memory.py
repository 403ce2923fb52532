"""Memory that gradient statistics need beyond model and libraries: `ours` or `vmap`."""

import sys
import tempfile
from pathlib import Path

import jax

from benchmarks.gradient_statistics import LANGUAGE, sentences, torch_vmap
from benchmarks.memory import report, resident
from benchmarks.shapes import Options, gpt2, random_params
from benchmarks.torch_peer import torch_twin
from jaxprotect.selection.rows import language_rows
from jaxprotect.selection.sensitivity import language_statistics


def main(way: str, options: Options) -> None:
    """Report the peak less what was resident before the work."""
    config = gpt2(options)
    params = random_params(config)
    encoded = sentences(config, options)
    jax.block_until_ready(params)
    if way == "ours":
        before = resident()
        jax.block_until_ready(language_statistics(params, encoded, config, language=LANGUAGE))
    else:
        rows = language_rows(encoded, LANGUAGE)
        with tempfile.TemporaryDirectory() as folder:
            model = torch_twin(params, config, Path(folder) / "model", attention="eager")
        before = resident()
        torch_vmap(model, rows)
    report(resident() - before)


if __name__ == "__main__":
    main(sys.argv[1], Options(small="--small" in sys.argv))
