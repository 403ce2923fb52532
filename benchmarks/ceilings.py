"""What the machine can do: matrix products per second, bytes copied per second."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleaved
from benchmarks.torch_peer import finished, tensor
from jaxprotect.products import matmul_precision

SHAPES = ((2048, 768, 3072), (2048, 3072, 768), (2048, 2048, 2048), (512, 768, 50257))
"""Products of GPT-2 and a square one: rows, inputs, outputs."""


@functools.cache
def matrix_product_rate(repeats: int = 5) -> float:
    """Most operations per second of any float32 product, by JAX or by torch.

    Args:
        repeats: rounds; the fastest counts, since a ceiling is a ceiling.

    Returns:
        Operations per second.
    """
    import torch

    rate = 0.0
    generator = np.random.default_rng(0)
    multiply = jax.jit(functools.partial(jnp.matmul, precision=matmul_precision()))
    for rows, inputs, outputs in SHAPES:
        a = generator.standard_normal((rows, inputs), np.float32)
        b = generator.standard_normal((inputs, outputs), np.float32)
        ours, theirs = (jnp.asarray(a), jnp.asarray(b)), (tensor(a), tensor(b))
        timed = interleaved(
            {
                "jax": functools.partial(multiply, *ours),
                "torch": lambda theirs=theirs: finished(torch.matmul(*theirs)),
            },
            repeats=repeats,
        )
        fastest = min(min(seconds) for seconds in timed.seconds.values())
        rate = max(rate, 2.0 * rows * inputs * outputs / fastest)
    return rate
