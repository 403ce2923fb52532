"""`write FOLDER` makes a model; `files|memory FOLDER evaluate|quantize` runs the command on it."""

import contextlib
import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from benchmarks.memory import report, resident
from jaxprotect.cli import main
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import REFERENCE_FOLDER
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import map_leaves

DEEP = ModelConfig(
    family="gpt2", layers=48, width=1024, heads=16, mlp_width=4096, vocab_size=6144, context=128
)
"""611 million weights, 2 % of them in each block."""


def write(folder: Path, small: bool) -> None:
    """Write random weights in bfloat16, and report the bytes that they have in float32."""
    config = replace(DEEP, layers=2, width=32, heads=2, mlp_width=64) if small else DEEP
    generator = np.random.default_rng(0)
    shapes = parameter_shapes(config)
    params = map_leaves(
        lambda path, leaf: 0.02 * generator.standard_normal(leaf.shape, np.float32), shapes
    )
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(folder, params, config, tokenizer_file=tokenizer, dtype="bfloat16")
    report(sum(4 * leaf.size for leaf in jax.tree.leaves(shapes)))


def evaluate(place: str, folder: str, what: str) -> None:
    """What the command says, its seconds, and the peak of everything since the process began."""
    words = ["evaluate", "--model", folder, "--weights", place, "--languages", "eng_Latn", "--json"]
    quantize = ["--quantize", "--protect", "0.01"] if what == "quantize" else []
    said, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(said):
        main([*words, "--draws", "100", *quantize])
    seconds = time.perf_counter() - start
    answer = {"seconds": seconds, "peak": resident(), "said": json.loads(said.getvalue())}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), "--small" in sys.argv)
    else:
        evaluate(*sys.argv[1:])
