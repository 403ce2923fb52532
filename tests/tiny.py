"""Tiny models that tests share."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.models.config import ModelConfig
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


def trees_equal(a: dict, b: dict) -> bool:
    """Bit for bit the same values."""
    same = jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b)
    return all(jax.tree.leaves(same))
