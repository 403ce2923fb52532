"""Which tokens to cache before every text: a greedy choice by measured damage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation, check_base
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.prefill import make_prefix, prefill
from jaxprotect.models.prefix import round_prefix
from jaxprotect.models.transformer import Params

Objective = Literal["mean", "worst"]
"""What a prefix is to make small: the mean or the largest relative damage of all languages."""
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

ROWS_AT_ONCE = 1024
"""Tokens of the vocabulary that are tried at a time."""


@dataclass(frozen=True, kw_only=True)
class PrefixStep:
    """A prefix on the way of a greedy choice.

    Args:
        tokens: its ids, in order.
        damages: language -> relative damage with it.
        objective: what was made small.
    """

    tokens: tuple[int, ...]
    damages: dict[str, float]
    objective: float


def frequent_tokens(encoded: Encoded, count: int) -> tuple[int, ...]:
    """The tokens that most often occur in texts, most frequent first, ties by id.

    Args:
        encoded: tokenised texts.
        count: how many.

    Returns:
        Token ids; fewer where the texts have fewer.

    Raises:
        InputError: `count` below 1.
    """
    if count < 1:
        raise InputError(f"`count` is {count}; it must be at least 1")
    scored = np.concatenate([batch.tokens[batch.scored] for batch in encoded.batches])
    ids, times = np.unique(scored, return_counts=True)
    return tuple(int(token) for token in ids[np.argsort(-times, kind="stable")][:count])


def pivot_tokens(params: Params, start: int, config: ModelConfig, count: int) -> tuple[int, ...]:
    """The tokens with the largest keys right after the start token, largest first, ties by id.

    Attention to a token grows with |k|, so these are the ones that later tokens can fix upon; the
    norms are averaged over blocks and heads. Takes one run of V rows of two tokens.

    Args:
        params: the full precision parameter tree.
        start: the start token.
        config: the architecture.
        count: how many.

    Returns:
        Token ids.

    Raises:
        InputError: `count` outside 1 to V.
    """
    if not 1 <= count <= config.vocab_size:
        raise InputError(f"`count` is {count}; allowed are 1 to {config.vocab_size}")
    norms = []
    for begin in range(0, config.vocab_size, ROWS_AT_ONCE):
        # The last rows reach back so that all have one shape.
        first = max(0, min(begin, config.vocab_size - ROWS_AT_ONCE))
        rows = np.arange(first, min(first + ROWS_AT_ONCE, config.vocab_size))
        tokens = jnp.stack([jnp.full(len(rows), start), jnp.asarray(rows)], axis=1)
        norms.append(np.asarray(_key_norms(params, tokens, config))[begin - first :])
    return tuple(int(token) for token in np.argsort(-np.concatenate(norms), kind="stable")[:count])


def _key_norms_of(
    params: Params, tokens: Int[Array, "B P"], config: ModelConfig
) -> Float[Array, "B"]:
    keys_BxLxPxHxK, _, _ = prefill(params, tokens, config)
    return jnp.mean(jnp.linalg.norm(keys_BxLxPxHxK[:, :, -1], axis=-1), axis=(1, 2))


_key_norms = jax.jit(_key_norms_of, static_argnums=2)


def choose_prefix(
    params: Params,
    quantized: Params,
    encoded: Encoded,
    base: Evaluation,
    config: ModelConfig,
    *,
    start: int,
    candidates: Sequence[int],
    steps: int,
    objective: str = "mean",
) -> list[PrefixStep]:
    """Tokens to cache with the start token, chosen one by one.

    Each step tries every candidate at both ends of the prefix and keeps the one that leaves the
    quantized model's objective smallest, be it larger than before: a prefix of a wanted length is
    always found, and the objectives tell whether it is worth its bytes. The caches are the full
    precision model's, rounded to float16 as they are stored.

    Args:
        params: the full precision parameter tree, which computes the caches.
        quantized: the quantized one, which uses them.
        encoded: the select sentences, with room for `steps` + 1 prefix tokens.
        base: the original model's evaluation of them.
        config: the architecture.
        start: the start token.
        candidates: token ids to try, such as `frequent_tokens` and `pivot_tokens`.
        steps: how many tokens to add.
        objective: `mean` or `worst` relative damage.

    Returns:
        `steps` + 1 prefixes: the start token alone, and what each step made of it.

    Raises:
        InputError: no candidate, negative `steps`, an unknown objective, a token id that the
            model does not have, or texts without room for the prefix.
    """
    if not candidates:
        raise InputError("`candidates` is empty; at least one token id is needed")
    if steps < 0:
        raise InputError(f"`steps` is {steps}; it must be at least 0")
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    check_base(base)

    def measure(tokens: tuple[int, ...]) -> PrefixStep:
        prefix = round_prefix(make_prefix(params, tokens, config))
        nats = evaluate_encoded(quantized, encoded, config, prefix).nats
        damages = {name: float(nats[name].sum() / of.sum() - 1) for name, of in base.nats.items()}
        values = np.array(list(damages.values()))
        found = float(values.max() if objective == "worst" else values.mean())
        return PrefixStep(tokens=tokens, damages=damages, objective=found)

    path = [measure((start,))]
    for _ in range(steps):
        tried = [measure(tokens) for tokens in _longer(path[-1].tokens, candidates)]
        path.append(min(tried, key=lambda step: step.objective))
    return path


def _longer(tokens: tuple[int, ...], candidates: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The prefix with each candidate at its end and at its beginning, each prefix once."""
    every = [p for c in dict.fromkeys(candidates) for p in ((*tokens, c), (c, *tokens))]
    yield from dict.fromkeys(every)
