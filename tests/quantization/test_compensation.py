"""Error compensation: against the formula, never worse than plain rounding, masks respected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes
from jaxprotect.quantization.compensation import Compensation, compensate_leaf, output_error
from jaxprotect.quantization.grid import leaf_grid
from jaxprotect.quantization.quantize import quantize_leaf
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths
from tests.tiny import random_params

OUT, UP = "blocks/attention/out/kernel", "blocks/mlp/up/kernel"
QKV = "blocks/attention/qkv/kernel"
SPECS = [
    QuantSpec(bits=3),
    QuantSpec(bits=3, granularity="group", group_size=5),
    QuantSpec(bits=4, granularity="tensor", symmetric=False),
    QuantSpec(bits=2, granularity="group", group_size=6, ranges="mse"),
]
NOTHING = jnp.zeros((), bool)


def correlated_moments(layers: int, inputs: int, positions: int = 200, seed: int = 0) -> jax.Array:
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(layers, inputs, inputs)) + 2  # a common part in all inputs
    x = generator.normal(size=(layers, positions, inputs)) @ mixing
    return jnp.asarray(np.einsum("lti,ltj->lij", x, x), jnp.float32)


def setting(path: str, spec: QuantSpec, share: float = 0.1, seed: int = 0):
    """Weights, a mask, the grid and moments of a leaf."""
    weights = leaf_paths(random_params(seed=seed))[path]
    mask = jnp.asarray(np.random.default_rng(seed).random(weights.shape) < share)
    inputs = int(np.prod([weights.shape[axis] for axis in contracted_axes(path)]))
    return (
        weights,
        mask,
        leaf_grid(weights, mask, path, spec),
        correlated_moments(len(weights), inputs, seed=seed),
    )


def matrices(leaf: jax.Array, inputs: int) -> jax.Array:
    return leaf.reshape(len(leaf), inputs, -1)


@pytest.mark.parametrize("path", [OUT, UP, QKV])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_outputs_err_at_most_as_much_as_under_plain_rounding(path, spec):
    weights, mask, grid, moments = setting(path, spec)
    compensated = compensate_leaf(weights, mask, path, spec, grid, moments)
    plain = quantize_leaf(weights, mask, path, spec, grid=grid)
    for layer, moment in enumerate(moments):
        inputs = len(moment)
        ours, usual = (
            output_error(matrices(leaf - weights, inputs)[layer], moment)
            for leaf in (compensated, plain)
        )
        assert (ours <= usual * (1 + 1e-5)).all()
        assert float(ours.sum()) < 0.7 * float(usual.sum())


@pytest.mark.parametrize("path", [OUT, QKV])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_quantizing_again_changes_nothing_and_protected_weights_are_untouched(path, spec):
    weights, mask, grid, moments = setting(path, spec)
    compensated = compensate_leaf(weights, mask, path, spec, grid, moments)
    again = quantize_leaf(compensated, mask, path, spec, grid=grid)
    np.testing.assert_array_equal(again, compensated)
    np.testing.assert_array_equal(np.asarray(compensated)[mask], np.asarray(weights)[mask])
    everything = compensate_leaf(weights, jnp.ones((), bool), path, spec, grid, moments)
    np.testing.assert_array_equal(everything, weights)


def by_formula(weights, fixed, grid_scale, moment, damping, qmax, order):
    """Round and correct one input after the other, the inverse made anew for each."""
    w, inputs = np.array(weights, np.float64), len(weights)
    h = np.array(moment, np.float64)
    h += damping * np.mean(np.diagonal(h)) * np.eye(inputs)
    rounded = np.zeros_like(w)
    free = list(order)
    while free:
        inverse = np.linalg.inv(h[np.ix_(free, free)])
        j = free[0]
        level = np.clip(np.round(w[j] / grid_scale), -qmax - 1, qmax) * grid_scale
        rounded[j] = np.where(fixed[j], weights[j], level)
        w[free] -= np.outer(inverse[0], (w[j] - rounded[j]) / inverse[0, 0])
        free = free[1:]
    return rounded


@pytest.mark.parametrize("largest_first", [True, False])
@pytest.mark.parametrize("block", [1, 6, 128])
def test_it_is_the_formula(largest_first, block):
    spec = QuantSpec(bits=4)
    weights, mask, grid, moments = setting(OUT, spec)  # inputs are heads x head size
    options = Compensation(largest_first=largest_first, block=block)
    got = compensate_leaf(weights, mask, OUT, spec, grid, moments, options=options)
    plain = quantize_leaf(weights, mask, OUT, spec, grid=grid)
    for layer, moment in enumerate(np.asarray(moments)):
        w, fixed, usual, found = (
            np.asarray(matrices(leaf, 16)[layer]) for leaf in (weights, mask, plain, got)
        )
        order = np.argsort(-np.diagonal(moment)) if largest_first else np.arange(16)
        scale = np.asarray(grid.scale)[layer].reshape(1, -1)
        want = by_formula(w, fixed, scale, moment, options.damping, 7, order)
        errors = [np.einsum("io,ij,jo->o", q - w, moment, q - w) for q in (want, usual)]
        best = np.where(errors[0] < errors[1], want, usual)
        same = np.isclose(found, best, atol=1e-5).all(axis=0)
        assert same.mean() > 0.9  # float32 may round a tie the other way, and all that follows it
        ours = np.einsum("io,ij,jo->o", found - w, moment, found - w)
        assert ours.sum() == pytest.approx(np.minimum(*errors).sum(), rel=0.05)


def test_errors_of_uncorrelated_inputs_cannot_be_made_up_for():
    spec = QuantSpec(bits=3)
    weights, mask, grid, _ = setting(UP, spec)
    diagonal = jnp.broadcast_to(jnp.diag(jnp.arange(1.0, 17.0)), (2, 16, 16))
    compensated = compensate_leaf(weights, mask, UP, spec, grid, diagonal)
    plain = quantize_leaf(weights, mask, UP, spec, grid=grid)
    np.testing.assert_array_equal(compensated, plain)
    nothing_seen = compensate_leaf(weights, mask, UP, spec, grid, jnp.zeros((2, 16, 16)))
    np.testing.assert_array_equal(nothing_seen, plain)


def test_protected_weights_pass_errors_on():
    """One output of three inputs that are nearly the same, the second protected."""
    weights = jnp.array([0.4, 3.0, 1.2]).reshape(1, 3, 1)
    mask = jnp.array([False, True, False]).reshape(1, 3, 1)
    spec = QuantSpec(bits=3, ranges="absmax")
    grid = leaf_grid(weights * jnp.array([1.0, 1.0, 2.5]).reshape(1, 3, 1), mask, UP, spec)
    assert float(grid.scale[0, 0, 0]) == 1.0
    moments = (jnp.ones((3, 3)) + 0.001 * jnp.eye(3))[None]
    options = Compensation(largest_first=False, damping=1e-6)
    got = compensate_leaf(weights, mask, UP, spec, grid, moments, options=options)
    # 0.4 -> 0 leaves 0.4, all of it for 1.2, which becomes 1.6 -> 2; plainly it would be 1.
    assert got.reshape(-1).tolist() == [0.0, 3.0, 2.0]


def test_bits_of_channels_are_respected():
    spec = QuantSpec(bits=4)
    weights, mask, _, moments = setting(UP, spec)
    widths = np.random.default_rng(0).choice([2, 4, 16], (2, 1, 64))
    bits = {UP: widths}
    grid = leaf_grid(weights, mask, UP, spec, bits)
    mixed = compensate_leaf(weights, mask, UP, spec, grid, moments, bits=bits)
    wide = np.broadcast_to(widths, weights.shape)
    np.testing.assert_array_equal(np.asarray(mixed)[wide == 16], np.asarray(weights)[wide == 16])
    again = quantize_leaf(mixed, mask, UP, spec, grid=grid, bits=bits)
    np.testing.assert_array_equal(again, mixed)
    alone = QuantSpec(bits=2)
    narrow = compensate_leaf(weights, mask, UP, alone, leaf_grid(weights, mask, UP, alone), moments)
    np.testing.assert_array_equal(np.asarray(mixed)[wide == 2], np.asarray(narrow)[wide == 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Compensation(damping=0.0), "`damping` is 0.0"),
        (lambda: Compensation(block=0), "`block` is 0"),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_moments_that_do_not_fit_are_refused():
    spec = QuantSpec()
    weights, mask, grid, moments = setting(UP, spec)
    with pytest.raises(InputError, match="`moments` at blocks/mlp/up/kernel have shape"):
        compensate_leaf(weights, mask, UP, spec, grid, moments[:, :5, :5])
    with pytest.raises(InputError, match="not finite and positive definite"):
        compensate_leaf(weights, mask, UP, spec, grid, jnp.full_like(moments, jnp.nan))
    with pytest.raises(InputError, match="not finite and positive definite"):
        compensate_leaf(weights, mask, UP, spec, grid, moments - 1e4 * jnp.eye(16))
    table = leaf_paths(random_params())["embed/tokens"]
    of_table = leaf_grid(table, NOTHING, "embed/tokens", spec)
    with pytest.raises(InputError, match="`path` is 'embed/tokens'"):
        compensate_leaf(table, NOTHING, "embed/tokens", spec, of_table, moments[0])
