"""Ranges learned from text: the scales of all blocks, trained on the nats that they cost.

Weights stay what they are; what is trained is ln(scale / first scale) of every block. Rounding has
gradient 1 (straight through), which gives each scale the gradient of Esser et al.:

    d w_q / d scale = round(w / scale) - w / scale inside the range, and the last code outside.

Source: Esser et al., Learned Step Size Quantization, arXiv:1902.08153. Adam makes its rescaling of
gradients by the size of a block unnecessary.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.evaluation.batches import Batch
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.blocks import from_scale_blocks, scale_blocks
from jaxprotect.quantization.division import exact_divide
from jaxprotect.quantization.grid import KEPT, Bits, Grids, block_bits
from jaxprotect.quantization.levels import Grid, code_limits
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection.importance import relative_weights
from jaxprotect.trees import map_leaves

OBJECTIVES = ("mean", "worst")
"""The mean relative damage, each language counted by its multiplier; or the largest."""

FARTHEST = 4.0
"""Largest |ln(scale / first scale)|: far beyond any use, and every number stays finite."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How ranges are learned.

    Args:
        objective: what is made small, `mean` or `worst`.
        steps: of Adam, each on one batch.
        learning_rate: of Adam: about the relative change of a scale in one step.
        check_every: steps between measurements of the objective on all sentences.
        eagerness: of `worst`: after a measurement a language's multiplier is multiplied by
            exp(eagerness * its damage / the largest damage).
        seed: of the order of batches.
    """

    objective: str = "mean"
    steps: int = 60
    learning_rate: float = 0.02
    check_every: int = 15
    eagerness: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be learned with."""
        if self.objective not in OBJECTIVES:
            raise unknown_name("objective", self.objective, OBJECTIVES)
        for name in ("steps", "check_every"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "eagerness"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` is {getattr(self, name)}; it must be above 0")


DEFAULT = Learning()


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Learned ranges and how they came about.

    Args:
        grids: of the smallest objective measured.
        objective: it.
        history: what was measured, the start first.
        multipliers: language -> how much its relative damage counted in the end; sum 1.
    """

    grids: Grids
    objective: float
    history: tuple[float, ...]
    multipliers: dict[str, float]


@jax.custom_jvp
def round_through(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """round(x), with gradient 1."""
    return jnp.round(x)


@round_through.defjvp
def _round_through_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return jnp.round(primals[0]), tangents[0]


def rounded_through(
    weights: Float[Array, "..."], grid: Grid, path: str, spec: QuantSpec, bits: Bits | None = None
) -> Float[Array, "..."]:
    """A leaf on its grid, differentiable by the scale; see the module.

    Args:
        weights: the leaf.
        grid: its grid.
        path: its path.
        spec: the quantizer.
        bits: see `grid.Bits`.

    Returns:
        The rounded leaf, none of it protected.
    """
    view, _ = scale_blocks(weights, path, spec)
    low, high = code_limits(spec, block_bits(bits, path, spec))
    position = exact_divide(view, grid.scale)
    codes = round_through(position) + grid.zero
    inside = (position + grid.zero >= low) & (position + grid.zero <= high)
    codes = jnp.where(inside, codes, jnp.clip(jax.lax.stop_gradient(codes), low, high))
    return from_scale_blocks((codes - grid.zero) * grid.scale, weights.shape, path, spec)


def learn_ranges(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    encoded: Encoded,
    *,
    multipliers: Mapping[str, float] | None = None,
    start: Grids | None = None,
    bits: Bits | None = None,
    options: Learning = DEFAULT,
) -> Learned:
    """Scales that lower the damage on some sentences, never worse there than the first ones.

    Args:
        params: the unquantized parameter tree.
        mask: what is protected.
        spec: the quantizer.
        config: the architecture.
        encoded: sentences of the select split; its batches are the batches of a step.
        multipliers: language -> how much its relative damage counts (`mean`) or counts at first
            (`worst`); all languages alike if not given.
        start: first grids, of all eligible leaves; those of least squared error if not given.
        bits: see `grid.Bits`.
        options: how.

    Returns:
        The best grids that were measured; zero points are those of `start`.

    Raises:
        InputError: multipliers of languages that are not in `encoded`, negative or all 0.
    """
    languages = encoded.languages
    counts = dict.fromkeys(languages, 1.0) if multipliers is None else dict(multipliers)
    unknown = sorted(set(counts) - set(languages))
    if unknown:
        raise InputError(f"`multipliers` has {unknown[0]!r}; the texts have {list(languages)}")
    base = _sums(evaluate_encoded(params, encoded, config).nats)
    relative_weights(counts, base)
    counts_L = np.array([counts.get(name, 0.0) for name in languages])
    counts_L /= counts_L.sum()
    base_L = np.array([base[name] for name in languages])
    start = weighted_mse_grids(params, mask, spec, {}, bits) if start is None else start
    plain = quantize_tree(params, mask, spec, config, bits=bits, grids=start)

    def measure(logs: dict[str, Array]) -> np.ndarray:
        grids = moved(start, logs)
        tree = quantize_tree(params, mask, spec, config, bits=bits, grids=grids)
        nats = _sums(evaluate_encoded(tree, encoded, config).nats)
        return np.array([nats[name] for name in languages]) / base_L - 1

    def objective(damages_L: np.ndarray) -> float:
        if options.objective == "worst":
            return float(damages_L[counts_L > 0].max())
        return float(first_L @ damages_L)

    first_L = counts_L.copy()
    logs = {path: jnp.zeros_like(grid.scale) for path, grid in start.items()}
    optimizer = optax.adam(options.learning_rate)
    state = optimizer.init(logs)
    damages_L = measure(logs)
    history, best = [objective(damages_L)], logs
    order = _order(len(encoded.batches), options)
    for step in progress(range(options.steps), desc="ranges", unit="step"):
        batch = encoded.batches[order[step]]
        weights_B = _row_weights(batch, counts_L / base_L)
        gradient = _gradient(
            logs, start, params, mask, plain, batch.tokens, batch.scored, weights_B, bits,
            spec=spec, config=config,
        )  # fmt: skip
        updates, state = optimizer.update(gradient, state)
        logs = cast(dict[str, Array], optax.apply_updates(logs, updates))
        if (step + 1) % options.check_every and step + 1 < options.steps:
            continue
        damages_L = measure(logs)
        history.append(objective(damages_L))
        if history[-1] < min(history[:-1]):
            best = logs
        if options.objective == "worst" and damages_L.max() > 0:
            counts_L = counts_L * np.exp(options.eagerness * damages_L / damages_L.max())
            counts_L /= counts_L.sum()
    return Learned(
        grids=moved(start, best),
        objective=min(history),
        history=tuple(history),
        multipliers=dict(zip(languages, map(float, counts_L), strict=True)),
    )


def moved(grids: Grids, logs: Mapping[str, Float[Array, "..."]]) -> Grids:
    """Grids with scales multiplied by exp(log), a factor of at most exp(`FARTHEST`)."""
    factors = {path: jnp.exp(jnp.clip(log, -FARTHEST, FARTHEST)) for path, log in logs.items()}
    return {
        path: Grid(scale=grid.scale * factors[path], zero=grid.zero) for path, grid in grids.items()
    }


@functools.partial(jax.jit, static_argnames=("spec", "config"))
def _gradient(
    logs: dict[str, Array],
    start: Grids,
    params: Params,
    mask: Mask,
    plain: Params,
    tokens: Array,
    scored: Array,
    weights: Float[Array, "B"],
    bits: Bits | None,
    spec: QuantSpec,
    config: ModelConfig,
) -> dict[str, Array]:
    def loss(logs: dict[str, Array]) -> Array:
        grids = moved(start, logs)

        def leaf(path: str, w: Array, protected: Array | np.ndarray, of_plain: Array) -> Array:
            if path not in grids:
                return of_plain
            kept = protected
            if bits is not None and path in bits:
                kept = protected | (jnp.asarray(bits[path]) == KEPT)
            return jnp.where(kept, of_plain, rounded_through(w, grids[path], path, spec, bits))

        tree = map_leaves(leaf, params, mask, plain)
        return jnp.sum(weights * sentence_nats(tree, tokens, scored, config))

    return jax.grad(loss)(logs)


def _row_weights(batch: Batch, weights_L: np.ndarray) -> Float[np.ndarray, "B"]:
    """Each row's weight by its language; 0 for empty rows."""
    chosen = weights_L[np.maximum(batch.language, 0)]
    # Adam does not mind the unit; of about 1 the gradients stay far from its epsilon.
    return np.where(batch.language >= 0, chosen / weights_L.max(), 0.0).astype(np.float32)


def _order(batches: int, options: Learning) -> np.ndarray:
    """Which batch each step takes: all of them in a new order, again and again."""
    generator = np.random.default_rng(options.seed)
    epochs = -(-options.steps // batches)
    return np.concatenate([generator.permutation(batches) for _ in range(epochs)])


def _sums(nats: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {language: float(values.sum()) for language, values in nats.items()}
