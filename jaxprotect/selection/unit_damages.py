"""What each unit of mixed precision costs each language at each width, predicted."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import KEPT
from jaxprotect.quantization.precision import (
    WIDTHS,
    Level,
    UnitBytes,
    Units,
    check_widths,
    unit_bytes,
    unit_count,
    unit_ids,
)
from jaxprotect.quantization.quantize import Mask, quantize_leaf
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths

PRIOR = 0.01
"""What a weight's F is raised by, as a share of the mean F of its checkpoint tensor.

A token that the select sentences do not have leaves no gradient in its row, which would then get
the fewest bits; other sentences have it. On the reference model's tune sentences 0.003 to 0.1 do
equally well, and 0 up to four times the damage at 5 bits.
"""

TRUSTED = (0.1, 10.0)
"""A measured damage moves a predicted one by factors in this range only."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitDamages:
    """The table that an allocation chooses from.

    Args:
        units: the unit of every output channel.
        widths: [B] the widths allowed.
        languages: [L].
        damages: [U, B, L] damage of each unit at each width, relative to the original nats.
        costs: bytes of each unit at each width.
    """

    units: Units
    widths: tuple[int, ...]
    languages: tuple[str, ...]
    damages: Float[np.ndarray, "U B L"]
    costs: UnitBytes


def language_unit_damages(
    params: Params,
    square: dict,
    units: Units,
    spec: QuantSpec,
    widths: Sequence[int] = WIDTHS,
    *,
    mask: Mask | None = None,
    prior: float = PRIOR,
) -> Float[np.ndarray, "U B"]:
    """One language's damage by unit and width, in nats.

    1/2 sum_i (F_i + prior * mean F of the checkpoint tensor) (Q_b(w)_i - w_i)^2; one leaf at one
    width is in memory at a time.

    Args:
        params: the unquantized parameter tree.
        square: the language's summed squared gradients.
        units: of `unit_ids`.
        spec: the quantizer.
        widths: b.
        mask: weights that are protected whatever the widths; none by default.
        prior: see `PRIOR`.

    Returns:
        Damages, summed over inputs in float32 and over channels in float64.

    Raises:
        InputError: widths that no output channel has, or statistics that do not fit the model.
    """
    check_widths(widths)
    total = np.zeros((unit_count(units), len(widths)))
    leaves, squares = leaf_paths(params), leaf_paths(square)
    flags = leaf_paths(masks.none(params) if mask is None else mask)
    for path, ids in units.items():
        weights = leaves[path]
        if path not in squares or squares[path].shape != weights.shape:
            found = squares[path].shape if path in squares else "no such leaf"
            raise InputError(f"`square` at {path}: {found}; the model has {weights.shape}")
        protected = jnp.asarray(flags[path])
        of_leaf = _raised(jnp.asarray(squares[path]), prior, path)
        for column, width in enumerate(widths):
            bits = jnp.full((1,) * weights.ndim, width, jnp.int32)
            lost = _channel_damage(
                jnp.asarray(weights), of_leaf, protected, bits, path, spec, ids.shape
            )
            values = on_host(lost).astype(np.float64).reshape(-1)
            total[:, column] += np.bincount(ids.reshape(-1), values, minlength=len(total))
    return total


@functools.partial(jax.jit, static_argnames=("path", "prior"))
def _raised(square: Array, prior: float, path: str) -> Array:
    square = square.astype(jnp.float32)
    axes = tuple(a for a in range(square.ndim) if a != layer_axis(path))
    return square + prior * jnp.mean(square, axis=axes, keepdims=True)


@functools.partial(jax.jit, static_argnames=("path", "spec", "shape"))
def _channel_damage(
    weights: Array,
    square: Array,
    protected: Array,
    bits: Array,
    path: str,
    spec: QuantSpec,
    shape: tuple[int, ...],
) -> Array:
    quantized = quantize_leaf(weights, protected, path, spec, bits={path: bits})
    error = jnp.square(quantized.astype(jnp.float32) - weights.astype(jnp.float32))
    inner = tuple(a for a, size in enumerate(shape) if size == 1)
    return 0.5 * jnp.sum(square * error, axis=inner, keepdims=True)


def unit_damages(
    params: Params,
    square: Callable[[str], dict],
    nats: Mapping[str, float],
    spec: QuantSpec,
    level: Level | str,
    widths: Sequence[int] = WIDTHS,
    *,
    mask: Mask | None = None,
    prior: float = PRIOR,
) -> UnitDamages:
    """Every language's damages by unit and width, one language's statistics in memory at a time.

    Args:
        params: the unquantized parameter tree.
        square: language -> its summed squared gradients; called once per language.
        nats: language -> the original model's nats over the same sentences.
        spec: the quantizer.
        level: what gets one width together.
        widths: widths allowed.
        mask: weights that are protected whatever the widths; none by default.
        prior: see `PRIOR`.

    Returns:
        The table.

    Raises:
        InputError: no language, statistics that do not fit or are not finite, unknown widths or
            levels.
    """
    if not nats:
        raise InputError("`nats` is empty; at least one language is needed")
    units = unit_ids(params, level, spec)
    costs = unit_bytes(params, units, spec, widths)
    columns = []
    for language, original in nats.items():
        lost = language_unit_damages(
            params, square(language), units, spec, widths, mask=mask, prior=prior
        )
        if not np.isfinite(lost).all() or not (math.isfinite(original) and original > 0):
            raise InputError(f"`square` or `nats` in {language} are not finite and above 0")
        columns.append(lost / original)
    return UnitDamages(
        units=units,
        widths=tuple(widths),
        languages=tuple(nats),
        damages=np.stack(columns, axis=-1),
        costs=costs,
    )


def width_correction(
    table: UnitDamages, uniform: Mapping[int, Mapping[str, float]]
) -> Float[np.ndarray, "B L"]:
    """Measured over predicted damage where every unit has one width.

    A sum of squares says too much where damages are large and too little where errors add up.

    Args:
        table: predictions.
        uniform: width -> language -> relative damage measured at that width everywhere; widths
            that are left out are not corrected, nor is 16.

    Returns:
        Factors, within `TRUSTED`.
    """
    factors = np.ones((len(table.widths), len(table.languages)))
    predicted_BxL = table.damages.sum(axis=0)
    for row, width in enumerate(table.widths):
        if width in uniform and width != KEPT:
            measured_L = np.array([uniform[width][name] for name in table.languages])
            factors[row] = np.clip(measured_L / np.maximum(predicted_BxL[row], 1e-12), *TRUSTED)
    return factors


def corrected(table: UnitDamages, factors: Float[np.ndarray, "B L"]) -> UnitDamages:
    """The table with its damages multiplied by factors of width and language."""
    return replace(table, damages=table.damages * factors)
