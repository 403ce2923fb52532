"""The work of a plan in the batches that a run makes of it: how many, of how many rows, how long.

Sentences are taken to be equally long, and languages to have equally many.
"""

import math
from dataclasses import dataclass

import jax

from jaxprotect.evaluation.batches import bucket_length, equal_rows, most_rows
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.selection.rows import full_rows, halved, loose_length
from jaxprotect.selection.sensitivity import BATCH_TOKENS, TIGHT_FROM
from jaxprotect.trees import leaf_paths

SPECIAL = 2
"""Tokens that a masked model reads around a sentence."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much is to be done.

    Args:
        length: tokens of a sentence.
        tokens: of the texts, all languages together.
        languages: how many there are.
        variants: quantized models to measure.
        batch_tokens: most tokens of one batch.
    """

    length: int = 64
    tokens: int = 100_000
    languages: int = 10
    variants: int = 10
    batch_tokens: int = 4096


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches of one shape.

    Args:
        count: how many there are.
        rows: of each, empty ones included.
        inputs: that the model reads of each row, padding included.
    """

    count: int
    rows: int
    inputs: int


def evaluated(config: ModelConfig, work: Work) -> Batches:
    """The batches of an evaluation, all languages together.

    Args:
        config: the architecture.
        work: how much is to be done.

    Returns:
        The batches.
    """
    # A masked model reads a sentence once for each of its tokens.
    rows = work.tokens if config.masked else math.ceil(work.tokens / work.length)
    inputs = bucket_length(_inputs(config, work), config.context)
    size = equal_rows(rows, most_rows(inputs, work.batch_tokens))
    return Batches(count=math.ceil(rows / size), rows=size, inputs=inputs)


def measured(config: ModelConfig, work: Work, *, tight: bool | None = None) -> list[Batches]:
    """The batches of one language's statistics.

    Args:
        config: the architecture.
        work: how much is to be done.
        tight: whether the last batch of a causal model is cut to its rows, and lengths are many;
            by default as for its weights on this machine's devices.

    Returns:
        Full batches first, then the last ones if they are smaller.
    """
    cut = config.masked or (_tight(config) if tight is None else tight)
    inputs = (bucket_length if cut else loose_length)(_inputs(config, work), config.context)
    most = full_rows(inputs, min(work.batch_tokens, BATCH_TOKENS))
    sentences = math.ceil(work.tokens / work.length / work.languages)
    # Every sentence of a masked model has batches of its own.
    times, rows = (sentences, work.length) if config.masked else (1, sentences)
    full, rest = divmod(rows, most)
    counts = {most: full}
    if rest:
        last = halved(most, rest) if cut else most
        counts[last] = counts.get(last, 0) + 1
    return [Batches(count=times * n, rows=size, inputs=inputs) for size, n in counts.items() if n]


def _inputs(config: ModelConfig, work: Work) -> int:
    """What the model reads of a sentence: a start token takes the place of the last one."""
    return min(work.length + SPECIAL, config.context) if config.masked else work.length


def _tight(config: ModelConfig) -> bool:
    leaves = leaf_paths(parameter_shapes(config)).values()
    weights = sum(math.prod(leaf.shape) for leaf in leaves)
    return jax.default_backend() == "cpu" and weights >= TIGHT_FROM
