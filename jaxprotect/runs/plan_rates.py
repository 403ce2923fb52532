"""How fast a device computes a plan's programs: measured on two blocks that fit everywhere."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxprotect.evaluation.evaluate import batch_nats
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.runs.plan import BACKWARD, FORWARD, Rates, products
from jaxprotect.selection.sensitivity import BATCH_TOKENS, row_statistics

BLOCKS = ModelConfig(
    family="gpt2", layers=2, width=1024, heads=16, mlp_width=4096, vocab_size=8192, context=256
)
"""Of the width of common small models."""

EVALUATED = 2048
"""Tokens of the batch that is evaluated."""


def measured_rates(length: int = 64) -> Rates:
    """Operations per second of the first device, in an evaluation and in statistics.

    Args:
        length: tokens of a sentence, up to 256.

    Returns:
        The rates.
    """
    length = min(length, BLOCKS.context)
    keys = iter(jax.random.split(jax.random.key(0), 64))
    params: Params = jax.tree.map(
        lambda of: 0.02 * jax.random.normal(next(keys), of.shape, of.dtype),
        parameter_shapes(BLOCKS),
    )

    def batch(tokens: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (max(1, tokens // length), length + 1)
        return np.ones(shape, np.int32), np.ones(shape, bool)

    forward, backward = batch(EVALUATED), batch(BATCH_TOKENS)
    per_token = products(BLOCKS)
    return Rates(
        forward=FORWARD
        * per_token
        * forward[0][:, 1:].size
        / _seconds(lambda: batch_nats(params, *forward, config=BLOCKS)),
        backward=(FORWARD + BACKWARD)
        * per_token
        * backward[0][:, 1:].size
        / _seconds(lambda: row_statistics(params, *backward, None, BLOCKS)),
    )


def _seconds(compute: Callable[[], Any]) -> float:
    """The shorter of two runs, once it is compiled."""
    jax.block_until_ready(compute())
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(compute())
        seconds.append(time.perf_counter() - start)
    return min(seconds)
