"""A prefix that is no tokens: keys, values and hidden state trained for the quantized model."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluation import Evaluation, check_base
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.prefix import Prefix, check_prefix, round_prefix
from jaxprotect.models.transformer import Params
from jaxprotect.selection.rows import LENGTHS, Row, language_rows


@dataclass(frozen=True, kw_only=True)
class PrefixLearning:
    """How a prefix is trained.

    Args:
        steps: of Adam.
        learning_rate: of the first step, relative to the root mean square of each array at the
            start, because keys, values and hidden states differ in size; it falls to 0 as a
            cosine.
        batch_rows: sentences of a step.
        seed: of the order of the sentences.
    """

    steps: int = 120
    learning_rate: float = 0.03
    batch_rows: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that train nothing."""
        for name, value in (("steps", self.steps), ("batch_rows", self.batch_rows)):
            if value < 1:
                raise InputError(f"`{name}` is {value}; it must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"`learning_rate` is {self.learning_rate}; it must be above 0")
        if self.seed < 0:
            raise InputError(f"`seed` is {self.seed}; it must be at least 0")


def learn_prefix(
    quantized: Params,
    prefix: Prefix,
    encoded: Encoded,
    base: Evaluation,
    config: ModelConfig,
    *,
    options: PrefixLearning = PrefixLearning(),
    weights: Mapping[str, float] | None = None,
) -> Prefix:
    """Train the arrays of a prefix to lower a model's nats; the weights stay as they are.

    Minimises sum_l lambda_l nats_l / base_l over sum_l lambda_l: with lambda = 1 the mean relative
    damage. The sum runs over batches of rows of similar length, in random order.

    Args:
        quantized: the parameter tree that uses the prefix.
        prefix: where to start, such as `make_prefix` of the original model.
        encoded: the select sentences, with room for the prefix.
        base: the original model's evaluation of them.
        config: the architecture.
        options: of the training.
        weights: language -> lambda_l, 0 or more; 1 by default and where a language is missing.

    Returns:
        The prefix, without token ids, rounded to float16 as it is stored.

    Raises:
        InputError: a prefix of another architecture, texts without room for it, weights that are
            negative, all 0 or of unknown languages, or arrays that training drove out of range.
    """
    check_base(base)
    check_prefix(prefix, config)
    if prefix.length > encoded.prefix_tokens:
        raise InputError(
            f"`prefix` has {prefix.length} tokens; `encoded` has room for {encoded.prefix_tokens}"
        )
    factors = _factors(base, weights)
    learned = {"keys": prefix.keys, "values": prefix.values, "hidden": prefix.hidden}
    sizes = jax.tree.map(lambda leaf: jnp.sqrt(jnp.mean(jnp.square(leaf))), learned)
    state = _optimizer(options).init(learned)
    batches = _endless_batches(language_rows(encoded, None), factors, options)
    for _ in range(options.steps):
        learned, state = _step(quantized, learned, state, sizes, *next(batches), config, options)
    return round_prefix(_as_prefix(learned))


def _as_prefix(arrays: dict[str, Array]) -> Prefix:
    return Prefix(keys=arrays["keys"], values=arrays["values"], hidden=arrays["hidden"])


def _optimizer(options: PrefixLearning) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(options.learning_rate, options.steps))


@functools.partial(jax.jit, static_argnums=(7, 8))
def _step(
    params: Params,
    learned: dict[str, Array],
    state: optax.OptState,
    sizes: dict[str, Array],
    tokens: Int[Array, "B T"],
    scored: Bool[Array, "B T"],
    of_rows: Float[Array, "B"],
    config: ModelConfig,
    options: PrefixLearning,
) -> tuple[dict[str, Array], optax.OptState]:
    def loss(learned: dict[str, Array]) -> Array:
        return jnp.sum(of_rows * sentence_nats(params, tokens, scored, config, _as_prefix(learned)))

    updates, state = _optimizer(options).update(jax.grad(loss)(learned), state)
    updates = jax.tree.map(jnp.multiply, updates, sizes)
    return jax.tree.map(jnp.add, learned, updates), state


def _factors(base: Evaluation, weights: Mapping[str, float] | None) -> dict[str, float]:
    """What a nat of each language counts: lambda_l / base_l, lambdas summing to 1."""
    given = dict(weights or {})
    unknown = sorted(given.keys() - base.nats.keys())
    if unknown:
        raise InputError(f"`weights` names {unknown[0]}; allowed are {', '.join(base.nats)}")
    lambdas = {name: float(given.get(name, 1.0)) for name in base.nats}
    for name, value in lambdas.items():
        if not 0 <= value < math.inf:
            raise InputError(f"`weights` has {value} for {name}; it must be 0 or more")
    total = sum(lambdas.values())
    if not total > 0:
        raise InputError("`weights` are all 0; at least one language must count")
    return {name: value / total / base.nats[name].sum() for name, value in lambdas.items()}


def _endless_batches(
    rows: list[Row], factors: Mapping[str, float], options: PrefixLearning
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tokens, scored and factors of batches: all rows in each epoch, in a new random order."""
    generator = np.random.default_rng(options.seed)
    longest = max(len(row.tokens) for row in rows)
    buckets: dict[int, list[Row]] = {}
    for row in rows:
        fits = [length for length in LENGTHS if length >= len(row.tokens)]
        buckets.setdefault(min([*fits, longest]), []).append(row)
    # A full epoch's sum estimates the objective; so does each batch, times their number.
    share = len(rows) / options.batch_rows
    while True:
        epoch = []
        for length in sorted(buckets):
            order = generator.permutation(len(buckets[length]))
            for begin in range(0, len(order), options.batch_rows):
                chosen = [buckets[length][i] for i in order[begin : begin + options.batch_rows]]
                epoch.append((length, chosen))
        for i in generator.permutation(len(epoch)):
            length, chosen = epoch[i]
            yield _batch(length, chosen, options.batch_rows, factors, share)


def _batch(
    length: int, rows: list[Row], size: int, factors: Mapping[str, float], share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens, scored = np.zeros((size, length), np.int32), np.zeros((size, length), bool)
    of_rows = np.zeros(size, np.float32)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)], scored[i, : len(row.tokens)] = row.tokens, row.scored
        of_rows[i] = share * factors[row.language]
    return tokens, scored, of_rows
