"""Gradient statistics of a masked model: the gradient of a sentence is that of all its copies.

A sentence of n tokens is n masked copies, so its gradient costs n forward and backward passes,
against which one tree of gradients per sentence is cheap: copies are summed into one before |g| and
g^2 are taken, and the statistics are as exact as those of a causal model.
"""

import functools
import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.evaluation.batches import bucket_length
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.loss import masked_hidden
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import PADDING, Params
from jaxprotect.progress import progress
from jaxprotect.selection.head_moments import head_inputs, head_moments
from jaxprotect.selection.per_sentence import MeasuredKernel, by_path, is_measured, make_probes
from jaxprotect.selection.rows import full_rows, halved
from jaxprotect.selection.statistics import InputStatistics, Statistics, add, add_inputs
from jaxprotect.trees import map_leaves


@dataclass(frozen=True, kw_only=True, eq=False)
class CopyBatch:
    """Masked copies of one sentence, padded to one shape.

    Args:
        tokens: [B, T + 1] the masked token and then the input, see `batches.Batch`.
        scored: [B, T + 1] True in the column of the mask; nowhere in empty rows.
        uniform: [B] draws in [0, 1), functions of seed, language, sentence and token.
        sentence: which sentence, numbered over all languages.
    """

    tokens: Int[np.ndarray, "B T"]
    scored: Bool[np.ndarray, "B T"]
    uniform: Float[np.ndarray, "B"]
    sentence: int


def copy_batches(
    encoded: Encoded, language: str | None, *, context: int, batch_tokens: int, seed: int
) -> Iterator[CopyBatch]:
    """The masked copies of a language's sentences, each sentence in batches of its own.

    Args:
        encoded: masked copies.
        language: whose; all by default.
        context: longest input of the model.
        batch_tokens: most tokens (B * T) of a batch; a single row may exceed it.
        seed: of the draws.

    Yields:
        Batches, those of a sentence one after the other.
    """
    wanted = None if language is None else encoded.languages.index(language)
    found: dict[tuple[int, int], list[tuple[np.ndarray, int]]] = {}
    for batch in encoded.batches:
        for i in np.flatnonzero(batch.language >= 0):
            place = (int(batch.language[i]), int(batch.sentence[i]))
            if wanted is None or place[0] == wanted:
                column = int(np.flatnonzero(batch.scored[i])[0])
                found.setdefault(place, []).append((batch.tokens[i], column))
    for number, ((of_language, sentence), rows) in enumerate(found.items()):
        name = zlib.crc32(encoded.languages[of_language].encode())
        draws = np.random.default_rng((seed, name, encoded.ids[sentence]))
        uniform = draws.random(len(rows), np.float32)
        inputs = max(int((tokens[1:] >= 0).sum()) for tokens, _ in rows)
        length = bucket_length(inputs, context)
        most = full_rows(length, batch_tokens)
        for begin in range(0, len(rows), most):
            members = rows[begin : begin + most]
            size = halved(most, len(members))
            tokens = np.full((size, length + 1), PADDING, np.int32)
            scored = np.zeros((size, length + 1), bool)
            for i, (row, column) in enumerate(members):
                used = min(len(row), length + 1)
                tokens[i, :used], scored[i, column] = row[:used], True
            padded = np.zeros(size, np.float32)
            padded[: len(members)] = uniform[begin : begin + most]
            yield CopyBatch(tokens=tokens, scored=scored, uniform=padded, sentence=number)


@functools.partial(jax.jit, static_argnames=("config", "drawn"))
def copy_statistics(
    params: Params,
    tokens: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    uniform: Float[Array, "B"],
    config: ModelConfig,
    drawn: bool,
) -> tuple[Params, dict[str, InputStatistics]]:
    """The gradient of the nats of some copies of one sentence, and what flows through.

    Args:
        params: parameter tree.
        tokens: masked copies.
        scored: the column of each mask.
        uniform: draws in [0, 1).
        config: the architecture.
        drawn: targets are drawn from the model, not the text's.

    Returns:
        Gradient tree, and statistics of every matrix; of the head's at masked tokens alone.
    """
    real, filled = tokens[:, 1:] >= 0, scored.any(axis=1)
    measured = map_leaves(functools.partial(_measured, real, filled), params)
    hidden, backward = jax.vjp(lambda tree: masked_hidden(tree, tokens, scored, config), measured)
    # One sentence with as many positions as there are copies; its bias is one more column.
    hidden_1xBxD = hidden.reshape(1, -1, config.width)
    table = jnp.concatenate([params["embed"]["tokens"], params["head"]["bias"][:, None]], axis=1)
    head = head_moments(
        table,
        jnp.concatenate([hidden_1xBxD, jnp.ones_like(hidden_1xBxD[..., :1])], axis=-1),
        jnp.maximum(tokens[None, :, 0], 0),
        filled[None],
        filled[None],
        uniform[None] if drawn else None,
    )
    (cotangents,) = backward(head.hidden[..., : config.width].reshape(hidden.shape))
    moments = by_path(cotangents)
    of_leaves = {p: m.kernel if is_measured(m) else m for p, m in moments.items()}
    of_leaves["embed/tokens"] += head.gradient[:, : config.width]
    of_leaves["head/bias"] = head.gradient[:, config.width]
    gradient = map_leaves(lambda path, leaf: of_leaves[path], params)
    positions, copies = (jnp.sum(flags).astype(jnp.float32) for flags in (real, filled))
    inputs = {
        path: leaf.probes.inputs(copies if path.startswith("head/") else positions)
        for path, leaf in moments.items()
        if is_measured(leaf)
    }
    at_masks = head_inputs(hidden_1xBxD, head, filled[None], copies)
    return gradient, inputs | {"embed/tokens": at_masks}


def _measured(real: Array, filled: Array, path: str, weights: Array) -> Array | MeasuredKernel:
    if not path.endswith("/kernel"):
        return weights
    layer = layer_axis(path) is not None
    valid = (real if layer else filled[:, None]).astype(jnp.float32)
    return MeasuredKernel(
        kernel=weights,
        probes=make_probes(weights, contracted_axes(path), layer),
        valid=jnp.broadcast_to(valid, (weights.shape[0], *valid.shape)) if layer else valid,
        joined=True,
    )


@jax.jit
def _of_sentence(gradient: Params, inputs: dict[str, InputStatistics]) -> Statistics:
    return Statistics(
        gradient=gradient,
        absolute=jax.tree.map(jnp.abs, gradient),
        square=jax.tree.map(jnp.square, gradient),
        inputs=inputs,
    )


@functools.partial(jax.jit, donate_argnums=0)
def _add_copies(first: tuple, second: tuple) -> tuple:
    inputs = {path: add_inputs(of, second[1][path]) for path, of in first[1].items()}
    return jax.tree.map(jnp.add, first[0], second[0]), inputs


@functools.partial(jax.jit, donate_argnums=0)
def _add_sentence(
    total: Statistics, gradient: Params, inputs: dict[str, InputStatistics]
) -> Statistics:
    return add(total, _of_sentence(gradient, inputs))


def masked_statistics(
    params: Params,
    batches: Sequence[CopyBatch],
    config: ModelConfig,
    *,
    drawn: bool,
    label: str,
) -> Statistics:
    """Sums over sentences of g, |g| and g^2, g the gradient of one sentence's pseudo-nats.

    Args:
        params: the unquantized parameter tree.
        batches: of `copy_batches`, at least one.
        config: the architecture.
        drawn: targets are drawn from the model, not the text's.
        label: of the progress bar.

    Returns:
        The statistics, in float32.
    """
    total: Any = None
    bar = progress(batches, desc=label, unit="batch")
    for _, of_sentence in itertools.groupby(bar, key=lambda batch: batch.sentence):
        parts = (
            copy_statistics(params, b.tokens, b.scored, b.uniform, config, drawn)
            for b in of_sentence
        )
        gradient, inputs = functools.reduce(_add_copies, parts)
        if total is None:
            total = _of_sentence(gradient, inputs)
        else:
            total = _add_sentence(total, gradient, inputs)
    assert total is not None
    return total.replace(
        sentences=len({batch.sentence for batch in batches}),
        tokens=sum(int(batch.scored.sum()) for batch in batches),
    )
