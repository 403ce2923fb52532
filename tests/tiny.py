"""Tiny models that tests share."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import REFERENCE_FOLDER
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.trees import map_leaves

CONFIG = ModelConfig(
    family="gpt2", layers=2, width=16, heads=4, mlp_width=64, vocab_size=37, context=24
)
SEPARATE = ModelConfig(
    family="opt",
    layers=2,
    width=16,
    heads=4,
    mlp_width=40,
    vocab_size=37,
    context=24,
    position_offset=2,
    activation="relu",
    fused_qkv=False,
    tied_head=False,
)


def random_params(config: ModelConfig = CONFIG, seed: int = 0) -> Params:
    """Params with every leaf random, norms and biases too (NumPy draws: nothing compiles)."""
    generator = np.random.default_rng(seed)

    def leaf(path: str, shape: jax.ShapeDtypeStruct) -> jax.Array:
        centre = 1.0 if path.endswith("scale") else 0.0
        return jnp.asarray(generator.normal(centre, 0.3, shape.shape), jnp.float32)

    return map_leaves(leaf, parameter_shapes(config))


def random_square(params: Params, seed: int) -> Params:
    """Squared gradients of many sizes, a tree like the params."""
    generator = np.random.default_rng(seed)
    return map_leaves(
        lambda path, leaf: jnp.asarray(generator.lognormal(0, 2, leaf.shape), jnp.float32), params
    )


def save_tiny_model(
    folder: Path, *, layers: int = 1, width: int = 8, context: int = 128, seed: int = 0
) -> str:
    """A random checkpoint with the reference tokenizer, which the shipped texts can be run on."""
    config = ModelConfig(
        family="gpt2",
        layers=layers,
        width=width,
        heads=2,
        mlp_width=4 * width,
        vocab_size=6144,
        context=context,
    )
    tokenizer = REFERENCE_FOLDER / "tokenizer.json"
    save_model_folder(folder, random_params(config, seed=seed), config, tokenizer_file=tokenizer)
    return str(folder)


def trees_equal(a: dict, b: dict) -> bool:
    """Bit for bit the same values."""
    same = jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b)
    return all(jax.tree.leaves(same))
