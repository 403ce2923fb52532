"""Predicted gains: errors, the relief in scale, and their sum, by hand and by law."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.gains import (
    _squared_error,
    expected_gain,
    predicted_damage,
    rounding,
    scale_relief,
    stack_gains,
)
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, random_params

UP = "blocks/mlp/up/kernel"
SPECS = [
    QuantSpec(bits=3),
    QuantSpec(bits=4, granularity="tensor"),
    QuantSpec(bits=2, granularity="group", group_size=5),
    QuantSpec(bits=3, symmetric=False),
]
SOME_SLOW = [*SPECS[:2], *(pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS[2:])]


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.mark.parametrize("spec", SOME_SLOW, ids=lambda spec: spec.label)
def test_errors_are_what_plain_quantization_does(params, spec):
    nothing = masks.none(params)
    found = rounding(params, nothing, spec).error
    quantized = leaf_paths(quantize_leaves(params, nothing, spec, CONFIG))
    for path, error in found.items():
        expected = np.square(quantized[path] - leaf_paths(params)[path])
        np.testing.assert_allclose(error, expected, rtol=1e-3, atol=1e-9, err_msg=path)


def test_relief_of_one_channel_by_hand():
    # |w| 8, 4, 4, 1 on the grid of 2 bits (qmax 1): scales 8, 4, 4, 1.
    weights = jnp.zeros((1, 4, 1)).at[0, :, 0].set(jnp.array([-8.0, 4.0, 1.0, 4.0]))
    spec = QuantSpec(bits=2)
    relief = scale_relief(weights, UP, spec)[0, :, 0] * 12
    # 30 % of 4 weights, rounded up: at most 2 leave. Falls 48 and 0: steady already.
    assert relief.tolist() == [48.0, 0.0, 0.0, 0.0]


def test_a_late_fall_is_shared_with_those_who_must_leave_before():
    weights = jnp.ones((1, 10, 1)).at[0, :3, 0].set(jnp.array([4.0, 4.0, 4.0]))
    relief = scale_relief(weights, UP, QuantSpec(bits=2))[0, :, 0] * 12
    # Three leave, the scale falls from 4 to 1 at the third: 15 shared by three.
    np.testing.assert_allclose(relief[:3], 5.0, rtol=1e-6)
    assert not relief[3:].any()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_relief_is_at_least_zero_and_adds_up(params, spec):
    weights = leaf_paths(params)[UP]
    relief = scale_relief(weights, UP, spec)
    assert relief.shape == weights.shape
    assert (relief >= 0).all()
    # Never more in all than the square of the first scale, a twelfth of it, per block.
    reach = float(jnp.max(jnp.abs(weights))) * (1 if spec.symmetric else 2)
    limit = (reach / (2 ** (spec.bits - 1) - 1)) ** 2 / 12
    assert relief.max() <= limit


def test_relief_follows_the_size_of_the_weights_in_a_channel(params):
    weights = leaf_paths(params)[UP]
    relief = scale_relief(weights, UP, QuantSpec(bits=3))
    for channel in range(8):
        sizes = np.abs(np.asarray(weights[0, :, channel]))
        assert (np.diff(relief[0, np.argsort(-sizes), channel]) <= 1e-9).all()


def test_layers_do_not_share_a_scale(params):
    weights = leaf_paths(params)[UP]
    spec = QuantSpec(bits=4, granularity="tensor")
    both = scale_relief(weights, UP, spec)
    louder = scale_relief(weights.at[1].multiply(100.0), UP, spec)
    np.testing.assert_array_equal(both[0], louder[0])
    assert (louder[1] != both[1]).any()


def test_no_relief_where_all_weights_set_the_scale(params):
    assert not scale_relief(leaf_paths(params)[UP], UP, QuantSpec(scale_from="all")).any()


def test_gain_by_hand():
    params = random_params()
    spec = QuantSpec(bits=3)
    square = map_leaves(lambda path, leaf: jnp.abs(leaf) + 0.5, params)
    rounded = rounding(params, masks.none(params), spec)
    gain = np.asarray(expected_gain(square, rounded, spec)[UP])
    F = np.asarray(leaf_paths(square)[UP])
    error, relief = np.asarray(rounded.error[UP]), np.asarray(rounded.relief[UP])
    expected = 0.5 * (F * error + F.sum(axis=1, keepdims=True) * relief)
    np.testing.assert_allclose(gain, expected, rtol=1e-5)


def test_the_largest_weight_gains_though_rounding_leaves_it_where_it_is(params):
    spec = QuantSpec(bits=3)
    ones = map_leaves(lambda path, leaf: jnp.ones_like(leaf), params)
    rounded = rounding(params, masks.none(params), spec)
    gain = np.asarray(expected_gain(ones, rounded, spec)[UP])[0, :, 0]
    largest = int(np.argmax(np.abs(np.asarray(leaf_paths(params)[UP])[0, :, 0])))
    assert rounded.error[UP][0, largest, 0] < 1e-10
    assert gain[largest] >= np.quantile(gain, 0.75)


def test_predicted_damage_leaves_out_what_is_protected(params):
    spec = QuantSpec(bits=3)
    ones = map_leaves(lambda path, leaf: jnp.ones_like(leaf), params)
    mask = masks.by_magnitude(params, fraction=0.1)
    rounded = rounding(params, mask, spec)
    damage = predicted_damage(ones, rounded, mask)
    quantized = quantize_leaves(params, mask, spec, CONFIG)
    lost = sum(
        float(jnp.sum(jnp.square(q - w)))
        for q, w in zip(leaf_paths(quantized).values(), leaf_paths(params).values(), strict=True)
    )
    assert damage == pytest.approx(0.5 * lost, rel=1e-3)
    assert predicted_damage(ones, rounded, masks.everything(params)) == 0


def test_protecting_by_gain_does_better_than_by_error_alone(params):
    """The measure that it is meant to lower, at an equal number of weights."""
    spec = QuantSpec(bits=3)
    generator = np.random.default_rng(0)
    square = map_leaves(
        lambda path, leaf: jnp.asarray(generator.exponential(size=leaf.shape), jnp.float32), params
    )
    nothing = masks.none(params)
    plain = rounding(params, nothing, spec)
    gains = expected_gain(square, plain, spec)
    zeros = {path: np.zeros_like(np.asarray(leaf)) for path, leaf in plain.relief.items()}
    alone = expected_gain(square, plain.replace(relief=zeros), spec)

    def damage(scores):
        tree = map_leaves(lambda path, leaf: jnp.asarray(scores.get(path, 0 * leaf)), params)
        mask = masks.by_score(tree, fraction=0.05)
        return predicted_damage(square, rounding(params, mask, spec), mask)

    assert damage(gains) < damage(alone) < predicted_damage(square, plain, nothing)


def test_statistics_that_do_not_fit_are_refused(params):
    rounded = rounding(params, masks.none(params), QuantSpec())
    ones = map_leaves(lambda path, leaf: jnp.ones_like(leaf), params)
    assert stack_gains({"a": ones, "b": ones}, rounded, QuantSpec())[UP].shape[0] == 2
    with pytest.raises(InputError, match="`squares` is empty"):
        stack_gains({}, rounded, QuantSpec())
    zeros = map_leaves(lambda path, leaf: jnp.zeros_like(leaf), params)
    with pytest.raises(InputError, match="`squares` in b sum to 0"):
        stack_gains({"a": ones, "b": zeros}, rounded, QuantSpec())
    broken = map_leaves(lambda path, leaf: leaf.at[0].set(jnp.nan), ones)
    with pytest.raises(InputError, match="`squares` in a sum to nan"):
        stack_gains({"a": broken}, rounded, QuantSpec())
    other = map_leaves(lambda path, leaf: leaf[:1], ones)
    with pytest.raises(InputError, match="`squares` in a at blocks"):
        stack_gains({"a": other}, rounded, QuantSpec())


def test_a_protected_weight_keeps_the_error_that_its_return_would_cost():
    weights = jnp.zeros((1, 4, 1)).at[0, :, 0].set(jnp.array([-8.4, 3.0, 1.0, 2.0]))
    protected = jnp.zeros((1, 4, 1), bool).at[0, 0, 0].set(True)
    # Scale 1 once -8.4 has left; it is rounded to -8 on that grid, not clipped to -4.
    error = _squared_error(weights, protected, UP, QuantSpec(bits=3))
    np.testing.assert_allclose(error[0, :, 0], [0.16, 0.0, 0.0, 0.0], atol=1e-6)
    clipped = _squared_error(weights, protected, UP, QuantSpec(bits=3, scale_from="all"))
    assert clipped[0, 0, 0] < 1e-6
