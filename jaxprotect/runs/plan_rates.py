"""How fast a device computes a plan's programs: measured on two blocks that fit everywhere."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxprotect.evaluation.evaluate import batch_nats
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.runs.plan import BACKWARD, FORWARD, Rates, multiplied
from jaxprotect.runs.plan_batches import Batches
from jaxprotect.selection.sensitivity import row_statistics

BLOCKS = ModelConfig(
    family="gpt2", layers=2, width=1024, heads=16, mlp_width=4096, vocab_size=8192, context=256
)
"""Of the width of common small models."""

MOST = 2048
"""Inputs of a batch that is timed."""


def measured_rates(evaluated: Batches, measured: Batches) -> Rates:
    """Operations per second of the first device, in an evaluation and in statistics.

    Args:
        evaluated: of which shape an evaluation's batches are; of longer rows 256 inputs are taken,
            of more rows as many as have 2,048.
        measured: of which shape those of statistics are.

    Returns:
        The rates.
    """
    keys = iter(jax.random.split(jax.random.key(0), 64))
    params: Params = jax.tree.map(
        lambda of: 0.02 * jax.random.normal(next(keys), of.shape, of.dtype),
        parameter_shapes(BLOCKS),
    )

    def shape(of: Batches) -> tuple[int, int]:
        inputs = min(of.inputs, BLOCKS.context)
        return min(of.rows, max(1, MOST // inputs)), inputs

    def batch(rows: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((rows, inputs + 1), np.int32), np.ones((rows, inputs + 1), bool)

    forward, backward = shape(evaluated), shape(measured)
    return Rates(
        forward=FORWARD
        * multiplied(BLOCKS, *forward)
        / _seconds(lambda: batch_nats(params, *batch(*forward), config=BLOCKS)),
        backward=(FORWARD + BACKWARD)
        * multiplied(BLOCKS, *backward)
        / _seconds(lambda: row_statistics(params, *batch(*backward), None, BLOCKS)),
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
