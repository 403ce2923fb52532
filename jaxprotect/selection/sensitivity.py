"""How much each language needs each weight: gradient statistics in one backward pass."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.device_counting import is_elsewhere
from jaxprotect.errors import InputError, unknown_name
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import check_kind, encode
from jaxprotect.evaluation.texts import Texts
from jaxprotect.hosts import safe_point
from jaxprotect.memory import smaller_batches
from jaxprotect.models.axes import contracted_axes, is_matrix, layer_axis
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.mesh_shapes import DATA
from jaxprotect.models.meshes import mesh_of
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params, embed, run_blocks
from jaxprotect.progress import progress
from jaxprotect.quantization.packed_params import check_dense
from jaxprotect.selection.head_moments import (
    add_lookup,
    head_inputs,
    head_moments,
    lookup_moments,
)
from jaxprotect.selection.masked_statistics import copy_batches, masked_statistics
from jaxprotect.selection.mesh_statistics import add_batches, at_once
from jaxprotect.selection.per_sentence import MeasuredKernel, by_path, make_probes
from jaxprotect.selection.rows import RowBatch, language_rows, row_batches
from jaxprotect.selection.statistics import InputStatistics, Statistics, add
from jaxprotect.trees import leaf_paths, map_leaves

Labels = Literal["data", "model"]
"""Targets of the loss: the text itself (empirical Fisher), or drawn from the model (its Fisher)."""
LABELS: tuple[Labels, ...] = get_args(Labels)

BATCH_TOKENS = 1024
"""Tokens of a batch. Small: the last batch of each length is padded with empty rows."""

TIGHT_FROM = 2**24
"""Weights from which a CPU needs longer for the padding of ten languages, some 3,000 tokens, than
the four seconds that another shape takes to compile. An accelerator always pads sooner."""


def sensitivity(
    model: Model,
    texts: Texts,
    *,
    labels: Labels = "data",
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Statistics]:
    """Every language's gradient statistics, all in memory; `iterate_sensitivity` streams them.

    Args:
        model: the unquantized model.
        texts: the sentences; use the `select` split.
        labels: `data` for the empirical Fisher, `model` for that of the model's own predictions.
        seed: of the drawn labels.
        batch_tokens: most tokens of a batch; the result depends on it by rounding only.

    Returns:
        Language -> statistics.

    Raises:
        InputError: as `language_statistics`.
    """
    encoded = encode(model, texts)
    options: dict[str, Any] = {"labels": labels, "seed": seed, "batch_tokens": batch_tokens}
    return dict(iterate_sensitivity(model.params, encoded, model.config, **options))


def iterate_sensitivity(
    params: Params,
    encoded: Encoded,
    config: ModelConfig,
    *,
    labels: Labels = "data",
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[tuple[str, Statistics]]:
    """One language's statistics after the other; arguments as in `language_statistics`.

    Yields:
        (language, statistics).
    """
    for language in encoded.languages:
        yield (
            language,
            language_statistics(
                params,
                encoded,
                config,
                language=language,
                labels=labels,
                seed=seed,
                batch_tokens=batch_tokens,
            ),
        )


def language_statistics(
    params: Params,
    encoded: Encoded,
    config: ModelConfig,
    *,
    language: str | None = None,
    labels: Labels = "data",
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Statistics:
    """Sums over sentences of g, |g|, g^2 for every weight, g the gradient of one sentence's nats.

    A sentence longer than the context counts as several, one per window. Of a masked model g is
    the gradient of a sentence's pseudo-nats, summed over all its masked copies.

    Args:
        params: the unquantized parameter tree (a quantizer's gradient is 0 almost everywhere).
        encoded: tokenised sentences.
        config: the architecture.
        language: whose sentences; all by default.
        labels: `data` for the empirical Fisher, `model` for that of the model's own predictions.
        seed: of the drawn labels, which depend on nothing else but language and sentence.
        batch_tokens: most tokens of a batch.

    Returns:
        The statistics, in float32.

    Raises:
        InputError: an unknown language or kind of labels, no sentence, gradients that are not
            finite, or too little memory.
    """
    check_dense("params", params)
    if labels not in LABELS:
        raise unknown_name("labels", labels, LABELS)
    if language is not None and language not in encoded.languages:
        raise InputError(f"`language` is {language!r}; the texts have {list(encoded.languages)}")
    check_kind(encoded, config)
    options = {"context": config.context, "batch_tokens": batch_tokens, "seed": seed}
    batches: list[Any]
    if config.masked:
        batches = list(copy_batches(encoded, language, **options))
    else:
        rows, tight = language_rows(encoded, language), _padding_costs_more(params)
        batches = list(row_batches(rows, tight=tight, **options))
    if not batches:
        raise InputError(f"`encoded` has no sentence in {language or 'any language'}")
    drawn, label = labels == "model", language or "statistics"
    with smaller_batches([batch.tokens.shape for batch in batches]):
        of = masked_statistics if config.masked else _causal_statistics
        total = of(params, batches, config, drawn=drawn, label=label)
        finite = all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(total.square))
    if not finite:
        raise InputError(
            f"`params` give gradients that are not finite in {language or 'some language'}"
        )
    return total


def _causal_statistics(
    params: Params, batches: Sequence[RowBatch], config: ModelConfig, *, drawn: bool, label: str
) -> Statistics:
    """The same of a causal model; see `masked_statistics`."""
    mesh = mesh_of(params)
    steps = list(at_once(batches, 1 if mesh is None else mesh.shape[DATA]))
    total: Any = None
    for step in progress(steps, desc=label, unit="batch"):
        safe_point()
        arrays = [(b.tokens, b.scored, b.uniform if drawn else None) for b in step]
        if mesh is None:
            part = row_statistics(params, *arrays[0], config)
            total = part if total is None else _add(total, part)
        else:
            total = add_batches(total, params, arrays, row_statistics, config=config, mesh=mesh)
    assert total is not None
    return total.replace(
        sentences=sum(batch.rows for batch in batches),
        tokens=sum(int(batch.scored.sum()) for batch in batches),
    )


_add = jax.jit(add, donate_argnums=0)


def _padding_costs_more(params: Params) -> bool:
    """Whether the padding of a language's last batches takes longer than compiling more shapes."""
    leaves = leaf_paths(params)
    return not is_elsewhere(leaves) and sum(leaf.size for leaf in leaves.values()) >= TIGHT_FROM


@functools.partial(jax.jit, static_argnames="config")
def row_statistics(
    params: Params,
    tokens: Int[Array, "B T1"],
    scored: Bool[Array, "B T1"],
    uniform: Float[Array, "B T"] | None,
    config: ModelConfig,
) -> Statistics:
    """The statistics of a batch of rows, in one forward and one backward pass."""
    inputs, scored = tokens[:, :-1], scored[:, 1:]
    valid = jnp.flip(jnp.cumsum(jnp.flip(scored, 1), axis=1), 1) > 0
    measured = _measured(params, valid)
    embedded = embed(params, inputs, config)
    hidden, backward = jax.vjp(lambda x, tree: run_blocks(tree, x, config), embedded, measured)
    table = params["embed"]["tokens"] if config.tied_head else params["head"]["kernel"].T
    head = head_moments(table, hidden, tokens[:, 1:], scored, valid, uniform)
    d_embedded, cotangents = backward(head.hidden)

    moments = _leaf_moments(cotangents)
    looked_up = params["embed"]["tokens"]
    if config.tied_head:
        moments["embed/tokens"] = add_lookup(head, table, inputs, hidden, scored, d_embedded)
    else:
        moments["embed/tokens"] = lookup_moments(looked_up, inputs, d_embedded)
        moments["head/kernel"] = (head.gradient.T, head.absolute.T, head.square.T)
    if config.positions == "learned":
        moments["embed/positions"] = _position_moments(
            d_embedded, params["embed"]["positions"].shape[0], config.position_offset
        )
    positions = jnp.sum(valid).astype(jnp.float32)
    of_inputs = _input_statistics(cotangents, positions)
    of_inputs["embed/tokens" if config.tied_head else "head/kernel"] = head_inputs(
        hidden, head, valid, positions
    )
    gradient, absolute, square = (
        map_leaves(lambda path, leaf, i=i: moments[path][i], params) for i in range(3)
    )
    return Statistics(gradient=gradient, absolute=absolute, square=square, inputs=of_inputs)


def _measured(params: Params, valid: Bool[Array, "B T"]) -> Params:
    """The blocks with measured kernels, and a copy of every vector for each row.

    The gradient at a row's own copy of a bias or a norm is that row's gradient.
    """
    mask = valid.astype(jnp.float32)
    batch = valid.shape[0]

    def leaf(path: str, weights: Array) -> Array | MeasuredKernel | None:
        layer = layer_axis(path) is not None
        if is_matrix(path):
            if not layer:
                return None  # embeddings and head are measured on their own
            return MeasuredKernel(
                kernel=weights,
                probes=make_probes(weights, contracted_axes(path), layer),
                valid=jnp.broadcast_to(mask, (weights.shape[0], *mask.shape)),
            )
        lead, rest = (weights.shape[:1], weights.shape[1:]) if layer else ((), weights.shape)
        copies = weights.reshape(*lead, 1, 1, *rest)
        return jnp.broadcast_to(copies, (*lead, batch, 1, *rest))

    return map_leaves(leaf, params)


def _leaf_moments(cotangents: Params) -> dict[str, tuple[Array, Array, Array]]:
    moments = {}
    for path, leaf in by_path(cotangents).items():
        if isinstance(leaf, MeasuredKernel):
            moments[path] = (leaf.kernel, leaf.probes.absolute, leaf.probes.square)
        else:
            axis = 0 if layer_axis(path) is None else 1
            g = jnp.squeeze(leaf, axis + 1)
            moments[path] = tuple(jnp.sum(v, axis=axis) for v in (g, jnp.abs(g), jnp.square(g)))
    return moments


def _position_moments(
    d_embedded: Float[Array, "B T D"], rows: int, offset: int
) -> tuple[Array, Array, Array]:
    """Each row of a batch reads each position once, so its gradient stands there as it is."""
    length = d_embedded.shape[1]
    padding = ((offset, rows - offset - length), (0, 0))
    values = (d_embedded, jnp.abs(d_embedded), jnp.square(d_embedded))
    total, absolute, square = (jnp.pad(jnp.sum(v, axis=0), padding) for v in values)
    return total, absolute, square


def _input_statistics(cotangents: Params, positions: Array) -> dict[str, InputStatistics]:
    statistics = {}
    for path, leaf in by_path(cotangents).items():
        if isinstance(leaf, MeasuredKernel):
            statistics[path] = leaf.probes.inputs(positions)
    return statistics
