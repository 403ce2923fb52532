"""(model, texts) -> nats of every sentence."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxprotect.errors import InputError
from jaxprotect.evaluation.batches import Batch
from jaxprotect.evaluation.encoding import Encoded, Start, encode_texts
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.evaluation.masked_copies import Masking, encode_masked
from jaxprotect.evaluation.texts import Texts
from jaxprotect.hosts import safe_point
from jaxprotect.memory import smaller_batches
from jaxprotect.models.config import ModelConfig, require_causal
from jaxprotect.models.meshes import by_rows, everywhere, mesh_of, on_rows, padded_rows
from jaxprotect.models.model import Model
from jaxprotect.models.prefix import Prefix
from jaxprotect.models.stored_model import StoredModel
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress

batch_nats = jax.jit(sentence_nats, static_argnames="config")


@functools.partial(jax.jit, static_argnames=("config", "mesh"))
def batch_nats_on(
    weights: tuple[Params, Prefix | None],
    tokens: Array,
    scored: Array,
    *,
    config: ModelConfig,
    mesh: Mesh,
) -> Array:
    """As `batch_nats`, each group of devices on its own rows; every device has all nats."""

    def nats(weights: tuple[Params, Prefix | None], tokens: Array, scored: Array) -> Array:
        params, prefix = weights
        return sentence_nats(params, tokens, scored, config, prefix)

    return everywhere(by_rows(nats, mesh)(weights, tokens, scored), mesh)


def _row_nats(
    params: Params, batch: Batch, config: ModelConfig, prefix: Prefix | None, mesh: Mesh | None
) -> Float[Array, "B"]:
    if mesh is None:
        return batch_nats(params, batch.tokens, batch.scored, config=config, prefix=prefix)
    rows: list[Any] = [
        on_rows(padded_rows(values, mesh), mesh) for values in (batch.tokens, batch.scored)
    ]
    nats = batch_nats_on((params, prefix), *rows, config=config, mesh=mesh)
    return nats[: batch.tokens.shape[0]]


def _read(values: Array) -> np.ndarray:
    safe_point()
    return np.asarray(values)


def encode(
    model: Model | StoredModel,
    texts: Texts,
    *,
    start: Start = "prefix",
    batch_tokens: int = 4096,
    prefix_tokens: int = 0,
    masking: Masking = "token",
) -> Encoded:
    """Tokenise texts for a model, with its own tokenizer and limits.

    Args:
        model: the model; its weights are not read.
        texts: the sentences.
        start: see `encode_texts`; a causal model's.
        batch_tokens: most tokens of a batch.
        prefix_tokens: see `encode_texts`; a causal model's.
        masking: see `encode_masked`; a masked model's.

    Returns:
        Of a causal model what `encode_texts` gives, of a masked one what `encode_masked` gives.

    Raises:
        InputError: an option of the other kind of model, or what those two refuse.
    """
    config = model.config
    if config.masked:
        if start != "prefix":
            require_causal(config, f"`start` {start!r}, the seed protocol's,")
        if prefix_tokens:
            require_causal(config, "`prefix_tokens`")
        return encode_masked(
            texts,
            model.tokenizer,
            context=config.context,
            masking=masking,
            batch_tokens=batch_tokens,
            vocab_size=config.vocab_size,
        )
    if masking != "token":
        raise InputError(
            f"`masking` is {masking!r}, of masked models; the model is of the causal family "
            f"{config.family}"
        )
    return encode_texts(
        texts,
        model.tokenizer,
        context=config.context,
        start=start,
        batch_tokens=batch_tokens,
        vocab_size=config.vocab_size,
        prefix_tokens=prefix_tokens,
    )


def check_kind(encoded: Encoded, config: ModelConfig) -> None:
    """Refuse texts that were encoded for the other kind of model.

    Args:
        encoded: tokenised texts.
        config: the architecture that is to read them.

    Raises:
        InputError: masked copies for a causal model, or texts without them for a masked one.
    """
    if encoded.masked != config.masked:
        kinds = {False: "causal", True: "masked"}
        raise InputError(
            f"`encoded` is for {kinds[encoded.masked]} models; the model is of the "
            f"{kinds[config.masked]} family {config.family}"
        )


def evaluate_encoded(
    params: Params, encoded: Encoded, config: ModelConfig, prefix: Prefix | None = None
) -> Evaluation:
    """Nats of every sentence of encoded texts; compiles once per batch shape.

    Args:
        params: parameter tree; on a mesh, each group of devices works on its rows of a batch.
        encoded: tokenised texts.
        config: the architecture.
        prefix: cached tokens in the place of the start token.

    Returns:
        Nats and sizes of every sentence.

    Raises:
        InputError: a sentence whose nats are not finite, which says that the weights are broken;
            texts encoded for a shorter prefix, or for none; or too little memory.
    """
    check_kind(encoded, config)
    prefix = fitting_prefix(prefix, encoded)
    mesh = mesh_of(params)
    # Dispatch is asynchronous: every batch is queued before the first result is read.
    with smaller_batches(encoded.shapes):
        of_rows = [_row_nats(params, batch, config, prefix, mesh) for batch in encoded.batches]
        read = progress(of_rows, desc="evaluate", unit="batch")
        return evaluation_of([_read(values) for values in read], encoded, config)


def fitting_prefix(prefix: Prefix | None, encoded: Encoded) -> Prefix | None:
    """A cached prefix as compiled functions take it: without its token ids.

    Args:
        prefix: the prefix, or None.
        encoded: tokenised texts.

    Returns:
        The prefix without token ids, which are static under jit: others would compile anew.

    Raises:
        InputError: texts encoded for a shorter prefix, or for none.
    """
    if prefix is None:
        return None
    if prefix.length > encoded.prefix_tokens:
        raise InputError(
            f"`prefix` has {prefix.length} tokens; `encoded` has room for "
            f"{encoded.prefix_tokens}: encode with `prefix_tokens`"
        )
    return replace(prefix, tokens=())


def evaluation_of(
    of_rows: Sequence[Float[np.ndarray, "_"]], encoded: Encoded, config: ModelConfig
) -> Evaluation:
    """The nats of rows as those of sentences.

    Args:
        of_rows: for each batch its [B] nats.
        encoded: the batches.
        config: the architecture.

    Returns:
        Nats and sizes of every sentence.

    Raises:
        InputError: a sentence whose nats are not finite, which says that the weights are broken.
    """
    nats = encoded.by_sentence(of_rows)
    for language, values in nats.items():
        if not np.isfinite(values).all():
            line = encoded.ids[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise InputError(f"`params` give nats that are not finite, first at {language}:{line}")
    return Evaluation(
        nats=nats,
        tokens=encoded.tokens,
        bytes=encoded.bytes,
        characters=encoded.characters,
        ids=encoded.ids,
        vocab_size=config.vocab_size,
    )


def evaluate(
    model: Model,
    texts: Texts,
    params: Params | None = None,
    *,
    start: Start = "prefix",
    batch_tokens: int = 4096,
    prefix: Prefix | None = None,
    masking: Masking = "token",
) -> Evaluation:
    """Nats of every sentence, in every language.

    A causal model's are -sum_t ln p(w_t | w_<t); a masked model's are the negative
    pseudo-log-likelihood, -sum_t ln p(w_t | all other tokens), each token masked in turn.

    Args:
        model: the model; its tokenizer and architecture.
        texts: parallel sentences.
        params: other weights of the same architecture, such as quantized ones; the model's own
            by default.
        start: `prefix` scores every token after a start token; `shift` is the seed protocol.
        batch_tokens: most tokens of one batch; the result does not depend on it.
        prefix: cached tokens in the place of the start token (`start` prefix only); the
            model's own, if it has one, by default.
        masking: what a masked model does not see: `token`, the scored one, or `word`, also those
            after it in the same word.

    Returns:
        Nats and sizes of every sentence.

    Raises:
        InputError: texts that the tokenizer or the model cannot take, or broken weights.
    """
    prefix = model.prefix if prefix is None else prefix
    length = 0 if prefix is None else prefix.length
    encoded = encode(
        model,
        texts,
        start=start,
        batch_tokens=batch_tokens,
        prefix_tokens=length,
        masking=masking,
    )
    weights = model.params if params is None else params
    return evaluate_encoded(weights, encoded, model.config, prefix)
