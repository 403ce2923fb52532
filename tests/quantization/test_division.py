"""Division is numpy's, bit for bit, also where a device's own is off by some units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.quantization import division
from jaxprotect.quantization.division import corrected_quotient, exact_divide

SMALLEST_NORMAL = np.finfo(np.float32).tiny


def dividends_and_divisors():
    """Pairs of all magnitudes and signs, of near-equal mantissas, and of integers."""
    numbers = np.random.default_rng(0)
    size = 200_000
    a, b = numbers.normal(size=(2, size)) * np.exp2(numbers.integers(-40, 40, (2, size)))
    near = numbers.uniform(0.5, 4, size).astype(np.float32)
    steps = numbers.integers(-3, 4, size)
    beside = (near.view(np.int32) + steps).astype(np.int32).view(np.float32)
    whole = numbers.integers(1, 300, (2, size))
    pairs = [(a, b), (near, beside), whole, (whole[0], near)]
    return [np.concatenate(side).astype(np.float32) for side in zip(*pairs, strict=True)]


CPU = exact_divide
GPU = division._divide_with_remainder
"""What `exact_divide` is on GPUs and TPUs."""


@pytest.mark.parametrize("divide", [CPU, GPU])
@pytest.mark.parametrize("jit", [False, True])
def test_division_is_exact_by_constants_and_broadcasts(divide, jit):
    wrap = jax.jit if jit else lambda f: f
    a = jax.random.normal(jax.random.key(0), (40, 50))
    rows = jnp.abs(jax.random.normal(jax.random.key(1), (40, 1)))
    by_constant = wrap(lambda a: divide(a, jnp.float32(7)))(a)
    np.testing.assert_array_equal(by_constant, np.asarray(a) / np.float32(7))
    for b in (rows, rows[:1]):
        by_broadcast = wrap(divide)(a, b)
        np.testing.assert_array_equal(by_broadcast, np.asarray(a) / np.asarray(b))


def test_every_device_but_the_cpu_has_the_other_program():
    a = jnp.ones(3)
    made = jax.jit(exact_divide).trace(a, a)
    on_gpu = made.lower(lowering_platforms=("cuda",)).as_text()
    on_cpu = made.lower(lowering_platforms=("cpu",)).as_text()
    assert "bitcast_convert" in on_gpu
    assert "bitcast_convert" not in on_cpu


@pytest.mark.parametrize("units", [-8, -1, 0, 2])
def test_a_quotient_is_corrected_by_its_remainder(monkeypatch, units):
    a, b = dividends_and_divisors()

    def off(a, b):
        bits = jax.lax.bitcast_convert_type(a / b, jnp.int32) + units
        return jax.lax.bitcast_convert_type(bits, jnp.float32)

    monkeypatch.setattr(division, "_divide", off)
    got = np.asarray(jax.jit(lambda *pair: GPU(*pair))(a, b))
    with np.errstate(over="ignore", under="ignore"):
        want = a / b
    normal = np.abs(want) >= SMALLEST_NORMAL
    assert normal.mean() > 0.9
    np.testing.assert_array_equal(got[normal], want[normal])


def test_the_largest_error_that_is_corrected():
    a = jnp.array([2**23, 2**24 - 1, 2**23 + 1])
    b = jnp.array([2**24 - 1, 2**23, 2**23 + 1])
    shift = jnp.array([24, 23, 23])
    want = np.round(np.asarray(a, float) * 2.0 ** np.asarray(shift) / np.asarray(b))
    for error in (-60, 60):
        got = corrected_quotient(a, b, shift, jnp.asarray(want + error, jnp.float32))
        np.testing.assert_array_equal(got, want)


def test_what_is_not_normal_is_as_the_device_divides():
    a = jnp.array([0.0, -0.0, 1.0, -1.0, 0.0, jnp.inf, 1.0, jnp.nan, 3e38, 1e-30])
    b = jnp.array([2.0, 2.0, 0.0, 0.0, 0.0, 2.0, jnp.inf, 1.0, 1e-3, 1e30])
    with np.errstate(all="ignore"):
        want = np.asarray(a) / np.asarray(b)
    got = np.asarray(GPU(a, b))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])


def test_gradients_are_those_of_a_quotient():
    a, b = jnp.array([3.0, -5.0]), jnp.array([7.0, 0.3])
    by_a, by_b = jax.grad(lambda a, b: exact_divide(a, b).sum(), argnums=(0, 1))(a, b)
    np.testing.assert_allclose(by_a, 1 / b, rtol=1e-6)
    np.testing.assert_allclose(by_b, -a / b**2, rtol=1e-6)
