"""`write FOLDER DTYPE` makes the model; `evaluate FOLDER` reads it and reports its peak memory."""

import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks.memory import report, resident
from benchmarks.shapes import MGPT, random_tokens
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.checkpoint import WeightDtype, load_params, save_model_folder
from jaxprotect.models.config_files import load_config
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import map_leaves


def write(folder: Path, dtype: WeightDtype, small: bool) -> None:
    """Write random weights and report their bytes in the file's dtype."""
    config = MGPT
    if small:
        config = replace(MGPT, layers=2, width=32, heads=2, mlp_width=64, vocab_size=1000)
    generator = np.random.default_rng(0)

    def leaf(path: str, shape: jnp.ndarray) -> np.ndarray:
        return 0.02 * generator.standard_normal(shape.shape, np.float32)

    params = map_leaves(leaf, parameter_shapes(config))
    save_model_folder(folder, params, config, dtype=dtype)
    report((folder / "model.safetensors").stat().st_size)


def evaluate(folder: Path) -> None:
    """Nats of one batch, and the peak of everything since the process began."""
    import jax

    config = load_config(folder)
    params, _ = load_params(folder, config)
    tokens = random_tokens(config, 8, 128)
    compiled = jax.jit(sentence_nats, static_argnames="config")
    nats = compiled(params, tokens, np.ones(tokens.shape, bool), config=config)
    assert bool(jnp.isfinite(nats).all())
    report(resident())


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "write":
        write(folder, "float16" if sys.argv[3] == "float16" else "float32", "--small" in sys.argv)
    else:
        evaluate(folder)
