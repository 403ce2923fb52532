"""A measured product is the product, and its cotangents are per-sentence gradient moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.selection import per_sentence
from jaxprotect.selection.per_sentence import MeasuredKernel, gradient_moments, make_probes

LENGTHS = (5, 2, 1)  # valid positions of each sentence; the rest is padding
VALID = (np.arange(5) < np.array(LENGTHS)[:, None]).astype(np.float32)

PRODUCTS = {
    "mlp": ("btd,df->btf", (6, 7), (0,)),
    "fused": ("btd,dchk->btchk", (6, 3, 2, 4), (0,)),
    "out": ("bthk,hkd->btd", (2, 4, 6), (0, 1)),
}
"""Equation, shape of the kernel, its contracted axes."""


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@functools.cache
def measured_and_plain(name):
    """Value, gradients of the inputs, and the measured kernel's cotangents; and plain copies."""
    equation, shape, contracted = PRODUCTS[name]
    x = jnp.asarray(draw(3, 5, *[shape[a] for a in contracted]))
    kernel = jnp.asarray(draw(*shape))
    y = jnp.einsum(equation, x, kernel)
    dy = draw(*y.shape, seed=1) * VALID.reshape(3, 5, *[1] * (y.ndim - 2))
    probes = make_probes(kernel, contracted, layer=False)
    stand_in = MeasuredKernel(kernel=kernel, probes=probes, valid=jnp.asarray(VALID))
    value, pull = jax.vjp(lambda x, k: k.project(x, equation), x, stand_in)
    of_sentences = [
        jax.vjp(lambda k, i=i: jnp.einsum(equation, x[i : i + 1], k), kernel)[1](dy[i : i + 1])[0]
        for i in range(3)
    ]
    dx = jax.vjp(lambda x: jnp.einsum(equation, x, kernel), x)[1](dy)[0]
    return (value, *pull(jnp.asarray(dy))), (y, dx, jnp.stack(of_sentences)), x


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_measured_product_is_the_product_with_its_gradients(name):
    (value, dx, cotangent), (y, plain_dx, per_row), _ = measured_and_plain(name)
    np.testing.assert_array_equal(value, y)
    close(dx, plain_dx)
    close(cotangent.kernel, per_row.sum(axis=0))


@pytest.mark.parametrize("name", PRODUCTS)
def test_probes_are_the_moments_of_per_sentence_gradients(name):
    (_, _, cotangent), (_, _, per_row), _ = measured_and_plain(name)
    close(cotangent.probes.absolute, np.abs(per_row).sum(axis=0))
    close(cotangent.probes.square, np.square(per_row).sum(axis=0))


@pytest.mark.parametrize("name", PRODUCTS)
def test_probes_say_what_flows_through_the_valid_positions(name):
    (_, _, cotangent), (y, _, _), x = measured_and_plain(name)
    rows = np.concatenate([np.abs(x[i, :n]) for i, n in enumerate(LENGTHS)])
    out = np.concatenate([np.abs(y[i, :n]) for i, n in enumerate(LENGTHS)])
    close(cotangent.probes.input_absolute, rows.sum(axis=0))
    close(cotangent.probes.input_square, np.square(rows).sum(axis=0))
    np.testing.assert_array_equal(cotangent.probes.input_largest, rows.max(axis=0))
    np.testing.assert_array_equal(cotangent.probes.output_largest, out.max(axis=0))


def test_probes_of_stacked_layers_have_a_layer_axis():
    probes = make_probes(jnp.zeros((3, 2, 4, 6)), (1, 2), layer=True)
    assert probes.absolute.shape == probes.square.shape == (3, 2, 4, 6)
    assert probes.input_absolute.shape == probes.input_largest.shape == (3, 2, 4)
    assert probes.output_largest.shape == (3, 6)


@pytest.mark.parametrize(("tile", "width"), [(2**16, 5), (3, 5), (14, 5), (21, 6), (35, 5)])
def test_tiles_do_not_change_the_moments(monkeypatch, tile, width):
    """One tile, a row a tile (also of more than a tile's weights), with and without a rest."""
    monkeypatch.setattr(per_sentence, "TILE", tile)
    x, dy = draw(4, 3, width), draw(4, 3, 7)
    per_row = np.einsum("bti,bto->bio", x, dy)
    got = gradient_moments(jnp.asarray(x), jnp.asarray(dy))
    for moment, want in zip(got, (per_row, np.abs(per_row), np.square(per_row)), strict=True):
        assert moment.shape == (width, 7)
        close(moment, want.sum(axis=0))


def test_sums_are_in_float32_whatever_the_inputs_are():
    x, dy = np.ones((300, 1, 1)), np.ones((300, 1, 1))
    got = gradient_moments(jnp.asarray(x, jnp.bfloat16), jnp.asarray(dy, jnp.bfloat16))
    for moment in got:  # bfloat16 sums of ones stop at 256
        assert moment.dtype == jnp.float32
        assert float(moment[0, 0]) == 300
