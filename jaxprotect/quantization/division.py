"""Division as IEEE 754 has it, on every device: one unit too many moves a weight to another level.

Two things are in its way. XLA turns division by a constant or a broadcast value into
multiplication by its reciprocal. And on GPUs and TPUs its division itself is only good to a unit
or two in the last place (on NVIDIA's it is `div.full.f32`; openxla/xla issue 37181: a / a is not
always 1), so there the quotient is corrected by its remainder, which integers have exactly.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

MANTISSA_BITS = 23
BIAS = 127
INFINITE = 255  # the exponent field of infinity and NaN


def exact_divide(a: Float[Array, "..."], b: Float[Array, "..."] | int) -> Float[Array, "..."]:
    """a / b, correctly rounded, for any b that broadcasts.

    A quotient below float32's smallest normal number (1.2e-38) is as the device rounds it.

    Args:
        a: dividend.
        b: divisor.

    Returns:
        The quotient, bit for bit the same on all devices; differentiable like a / b.
    """
    return _compiled_quotient(a, jnp.asarray(b, a.dtype))


@jax.custom_jvp
def _quotient(a: Array, b: Array) -> Array:
    return jax.lax.platform_dependent(a, b, cpu=_divide, default=_divide_with_remainder)


@_quotient.defjvp
def _quotient_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _quotient(*primals), jax.jvp(_divide, primals, tangents)[1]


_compiled_quotient = jax.jit(_quotient)  # one program where it is called by itself


def _divide(a: Array, b: Array) -> Array:
    # min(|a|, 0) is 0, but XLA does not know that, and so divides.
    return a / (b + jnp.minimum(jnp.abs(a), 0.0))


def _divide_with_remainder(a: Array, b: Array) -> Array:
    quotient = _divide(a, b)
    a, b = jnp.broadcast_arrays(a, b)
    a_bits, b_bits = _bits(a), _bits(b)
    a_mantissa, b_mantissa = _mantissa(a_bits), _mantissa(b_bits)
    # With this shift, the quotient of the mantissas has 24 bits like any mantissa.
    shift = MANTISSA_BITS + (a_mantissa < b_mantissa)
    shifted = a_mantissa.astype(jnp.float32) * (1 << shift).astype(jnp.float32)
    exponent = _exponent(a_bits) - _exponent(b_bits) + BIAS + MANTISSA_BITS - shift
    estimate = _divide(shifted, b_mantissa.astype(jnp.float32))
    mantissa = corrected_quotient(a_mantissa, b_mantissa, shift, estimate)
    # A mantissa that was rounded up to 2^24 carries into the exponent, as it should.
    magnitude = (exponent << MANTISSA_BITS) + (mantissa - (1 << MANTISSA_BITS))
    sign = (a_bits ^ b_bits) & jnp.uint32(1 << 31)
    exact = jax.lax.bitcast_convert_type(magnitude.astype(jnp.uint32) | sign, jnp.float32)
    normal = _is_normal(a_bits) & _is_normal(b_bits) & (exponent > 0) & (exponent < INFINITE)
    return jnp.where(normal, exact, quotient)


def corrected_quotient(
    a: Int[Array, "..."],
    b: Int[Array, "..."],
    shift: Int[Array, "..."],
    estimate: Float[Array, "..."],
) -> Int[Array, "..."]:
    """round(a 2^shift / b), from an estimate that is off by up to 60.

    a 2^shift and the estimate times b do not fit into 32 bits, but their difference does, and so
    int32, which counts modulo 2^32, has it exactly.

    Args:
        a: 24-bit integers.
        b: 24-bit integers.
        shift: such that the quotient has 24 bits.
        estimate: about the quotient.

    Returns:
        The nearest integers; a quotient of 24 bits by 24 is never half way between two.
    """
    quotient = estimate.astype(jnp.int32)
    remainder = (a << shift) - quotient * b
    steps = jnp.round(remainder.astype(jnp.float32) / b.astype(jnp.float32)).astype(jnp.int32)
    twice = 2 * (remainder - steps * b)
    return quotient + steps + (twice > b) - (twice < -b)


def _bits(x: Array) -> UInt[Array, "..."]:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def _exponent(bits: Array) -> Int[Array, "..."]:
    return ((bits >> MANTISSA_BITS) & INFINITE).astype(jnp.int32)


def _mantissa(bits: Array) -> Int[Array, "..."]:
    return ((bits & ((1 << MANTISSA_BITS) - 1)) | (1 << MANTISSA_BITS)).astype(jnp.int32)


def _is_normal(bits: Array) -> Array:
    exponent = _exponent(bits)
    return (exponent > 0) & (exponent < INFINITE)
