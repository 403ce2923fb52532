"""(model in its files, texts) -> nats of every sentence, with two blocks in memory.

The residual streams of batches wait on the host. Each block is read once for all of them, quantized
where that is asked for, applied and dropped; the next one is read meanwhile.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxprotect.errors import InputError
from jaxprotect.evaluation.batches import Batch
from jaxprotect.evaluation.encoding import Encoded, Start
from jaxprotect.evaluation.evaluate import check_kind, encode, evaluation_of, fitting_prefix
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.loss import first_stream, next_stream, stream_nats
from jaxprotect.evaluation.masked_copies import Masking
from jaxprotect.evaluation.texts import Texts
from jaxprotect.memory import smaller_batches
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.prefix import Prefix, check_prefix
from jaxprotect.models.stored_model import AsKept, StoredModel, blocks_in_turn, read_outside
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensorwise import Chosen, check_chosen, quantize_tensor

STREAMS = 2**30
"""Bytes of residual streams that wait at a time; for more texts the blocks are read again."""

_first = jax.jit(first_stream, static_argnames="config")
_next = jax.jit(next_stream, static_argnames="config")
_nats = jax.jit(stream_nats, static_argnames="config")


def evaluate_streamed(
    model: StoredModel,
    texts: Texts,
    *,
    spec: QuantSpec | None = None,
    mask: Chosen | None = None,
    start: Start = "prefix",
    batch_tokens: int = 4096,
    prefix: Prefix | None = None,
    masking: Masking = "token",
) -> Evaluation:
    """`evaluate` of a checkpoint that does not fit into memory, quantized or not.

    In memory are the embeddings and the head, two blocks, and the residual streams of at most
    `STREAMS` bytes. The nats are those of `evaluate`, of `quantize`d weights if `spec` is given.

    Args:
        model: of `open_model`.
        texts: parallel sentences.
        spec: quantize the weights so; they stay as they are by default.
        mask: what is protected (with `spec`): a mask, or of `masks.magnitude_cut`; nothing by
            default.
        start: as for `evaluate`.
        batch_tokens: most tokens of one batch.
        prefix: as for `evaluate`.
        masking: as for `evaluate`.

    Returns:
        Nats and sizes of every sentence, as of `evaluate`.

    Raises:
        InputError: as for `evaluate`, `open_model` and `quantize`; tensors by name.
    """
    encoded = encode(
        model,
        texts,
        start=start,
        batch_tokens=batch_tokens,
        prefix_tokens=0 if prefix is None else prefix.length,
        masking=masking,
    )
    return evaluate_encoded_streamed(model, encoded, spec=spec, mask=mask, prefix=prefix)


def evaluate_encoded_streamed(
    model: StoredModel,
    encoded: Encoded,
    *,
    spec: QuantSpec | None = None,
    mask: Chosen | None = None,
    prefix: Prefix | None = None,
) -> Evaluation:
    """`evaluate_streamed` of encoded texts.

    Args:
        model: of `open_model`.
        encoded: tokenised texts.
        spec: see `evaluate_streamed`.
        mask: see `evaluate_streamed`.
        prefix: cached tokens in the place of the start token.

    Returns:
        Nats and sizes of every sentence.

    Raises:
        InputError: see `evaluate_streamed`.
    """
    config = model.config
    check_kind(encoded, config)
    prefix = fitting_prefix(prefix, encoded)
    if prefix is not None:
        check_prefix(prefix, config)
    if spec is not None:
        check_chosen(mask, spec, config)
    elif mask is not None:
        raise InputError("`mask` is given without `spec`, whose rounding it keeps weights from")
    as_kept = functools.partial(_as_kept, spec, mask)
    rounds = _rounds(encoded.batches, config, STREAMS)
    bar = progress(desc="evaluate", unit="block", total=len(rounds) * config.layers)
    with smaller_batches(encoded.shapes), bar:
        outside = read_outside(model, as_kept)
        of_rows = [
            nats
            for batches in rounds
            for nats in _through_blocks(model, outside, batches, as_kept, prefix, bar)
        ]
    return evaluation_of(of_rows, encoded, config)


def _rounds(batches: Sequence[Batch], config: ModelConfig, most: int) -> list[list[Batch]]:
    """Batches in their order, together as long as their streams have at most so many bytes."""
    rounds: list[list[Batch]] = []
    room = 0
    for batch in batches:
        size = 4 * config.width * batch.tokens.size
        if size > room:
            rounds.append([])
            room = most
        rounds[-1].append(batch)
        room -= size
    return rounds


def _through_blocks(
    model: StoredModel,
    outside: Params,
    batches: Sequence[Batch],
    as_kept: AsKept,
    prefix: Prefix | None,
    bar: Any,
) -> list[np.ndarray]:
    """The nats of every row of some batches; every block is read once."""
    config = model.config
    embedded = (_first(outside, b.tokens, config=config, prefix=prefix) for b in batches)
    streams = list(_in_turn(embedded))
    for layer, block in blocks_in_turn(model, as_kept):
        of_layer = None if prefix is None else _of_layer(prefix, layer)
        layers = np.array([layer], np.int32)
        streamed = (
            _next(block, layers, streams[i], batch.tokens, config=config, prefix=of_layer)
            for i, batch in enumerate(batches)
        )
        for i, stream in enumerate(_in_turn(streamed)):
            streams[i] = stream
        del block, streamed  # before the one after the next is read
        bar.update()
    return list(
        _in_turn(
            _nats(outside, stream, batch.tokens, batch.scored, config=config, prefix=prefix)
            for stream, batch in zip(streams, batches, strict=True)
        )
    )


def _as_kept(
    spec: QuantSpec | None, chosen: Chosen | None, path: str, layer: int | None, leaf: Array
) -> Array:
    """A leaf as the model computes with it; waited for, so that what was read goes at once."""
    if spec is None:
        return leaf
    return jax.block_until_ready(quantize_tensor(leaf, path, layer, chosen, spec))


def _of_layer(prefix: Prefix, layer: int) -> Prefix:
    one = slice(layer, layer + 1)
    return replace(prefix, keys=prefix.keys[one], values=prefix.values[one])


def _in_turn(results: Iterable[Array]) -> Iterator[np.ndarray]:
    """Results on the host, each fetched while the next one is computed."""
    before = None
    for result in results:
        if before is not None:
            yield np.asarray(before)
        before = result
    if before is not None:
        yield np.asarray(before)
