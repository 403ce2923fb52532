"""Analytic clipping: the range of the least error expected of a Laplace or a Gauss distribution.

With a range [-alpha, alpha] cut in n steps, the expected squared error of a weight is that of the
weights beyond the range plus that of rounding inside, (2 alpha / n)^2 / 12:

    Laplace(0, b):      2 b^2 exp(-alpha / b) + alpha^2 / (3 n^2)
    Gauss(0, sigma^2):  (alpha^2 + sigma^2) (1 - erf(alpha / (sqrt(2) sigma)))
                        - sqrt(2 / pi) alpha sigma exp(-alpha^2 / (2 sigma^2)) + alpha^2 / (3 n^2)

The paper has n = 2^bits; here n is what the grid really has between its outermost levels:
2 (2^(bits-1) - 1) steps when symmetric (one code is left unused by the range), 2^bits - 1 if not.

Source: Banner, Nahshan, Hoffer and Soudry, ACIQ, arXiv:1810.05723.
"""

import functools
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import minimize_scalar

from jaxprotect.quantization.levels import Grid, counted_range, grid_of_range
from jaxprotect.quantization.spec import QuantSpec

Distribution = Literal["laplace", "gauss"]

FIT = math.sqrt(math.pi / (2 * math.e))
"""Mean distance over standard deviation below which a Laplace distribution is the likelier one.

Largest log-likelihoods per weight: -ln(2 b) - 1, and -ln(sigma) - ln(2 pi e) / 2.
"""


def expected_error(distribution: Distribution, multiple: float, steps: int) -> float:
    """Expected squared error of a weight, in squared units of b or sigma.

    Args:
        distribution: of the weights, centred, with b or sigma = 1.
        multiple: half the range, alpha / b or alpha / sigma.
        steps: n, steps between the ends of the range.

    Returns:
        The error; see the formula above.
    """
    inside = multiple**2 / (3 * steps**2)
    if distribution == "laplace":
        return 2 * math.exp(-multiple) + inside
    tail = (multiple**2 + 1) * math.erfc(multiple / math.sqrt(2))
    return tail - math.sqrt(2 / math.pi) * multiple * math.exp(-(multiple**2) / 2) + inside


@functools.cache
def clip_multiple(distribution: Distribution, steps: int) -> float:
    """Half the range of the least `expected_error`, in units of b or sigma.

    Args:
        distribution: of the weights.
        steps: steps between the ends of the range.

    Returns:
        alpha / b or alpha / sigma.
    """
    found = minimize_scalar(
        lambda multiple: expected_error(distribution, multiple, steps),
        bounds=(0.0, 40.0),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x)  # pyright: ignore[reportAttributeAccessIssue]


def steps_of(bits: int, symmetric: bool) -> int:
    """Steps between the two ends of a grid's range."""
    return 2 * (2 ** (bits - 1) - 1) if symmetric else 2**bits - 1


def aciq_grid(
    view: Float[Array, "..."],
    counted: Bool[Array, "..."],
    axes: tuple[int, ...],
    spec: QuantSpec,
    bits: Int[Array, "..."] | None = None,
) -> Grid:
    """The grid that reaches alpha to both sides of 0, or of the mean when asymmetric.

    Each block takes the distribution that makes its counted weights likelier. The range never
    reaches beyond the weights themselves.

    Args:
        view: blocked weights.
        counted: True where a weight takes part.
        axes: axes of a block.
        spec: the quantizer.
        bits: of each block, if not `spec.bits`.

    Returns:
        The grid.

    Source: arXiv:1810.05723; see the module.
    """
    counted = jnp.broadcast_to(counted, view.shape)
    number = jnp.maximum(jnp.sum(counted, axis=axes, keepdims=True), 1)

    def mean(values: Array) -> Array:
        return jnp.sum(jnp.where(counted, values, 0.0), axis=axes, keepdims=True) / number

    centre = jnp.zeros((), jnp.float32) if spec.symmetric else mean(view)
    distance = mean(jnp.abs(view - centre))
    deviation = jnp.sqrt(mean(jnp.square(view - centre)))
    laplace, gauss = (_multiple(of, spec, bits) for of in ("laplace", "gauss"))
    reach = jnp.where(distance < FIT * deviation, laplace * distance, gauss * deviation)
    low, high = counted_range(view, counted, axes, spec)
    if spec.symmetric:
        reach = jnp.minimum(reach, high)
        return grid_of_range(-reach, reach, spec, bits)
    low = jnp.clip(centre - reach, low, 0.0)
    high = jnp.clip(centre + reach, 0.0, high)
    return grid_of_range(low, high, spec, bits)


def _multiple(
    distribution: Distribution, spec: QuantSpec, bits: Int[Array, "..."] | None
) -> Float[Array, "..."] | float:
    if bits is None:
        return clip_multiple(distribution, steps_of(spec.bits, spec.symmetric))
    table = [clip_multiple(distribution, steps_of(b, spec.symmetric)) for b in range(2, 9)]
    return jnp.asarray(np.array(table, np.float32))[bits - 2]
