"""Learned ranges: the gradient by hand, never worse than the start, repeatable, masks respected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.models.transformer import forward
from jaxprotect.quantization.grid import leaf_grid
from jaxprotect.quantization.quantize import quantize_leaf, quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection import masks
from jaxprotect.selection.learned_ranges import Learning, learn_ranges, rounded_through
from jaxprotect.trees import leaf_paths
from tests.selection.test_sensitivity import ENCODED, OWNERS, encoded_of, model_of
from tests.tiny import random_params

pytestmark = pytest.mark.slow

UP = "blocks/mlp/up/kernel"
SPEC = QuantSpec(bits=2)
QUICK = Learning(steps=30, learning_rate=0.03, check_every=5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_gradient_of_a_scale_is_that_of_the_paper(symmetric):
    weights = leaf_paths(random_params())[UP]
    spec = QuantSpec(bits=3, symmetric=symmetric)
    grid = leaf_grid(0.6 * weights, jnp.zeros((), bool), UP, spec)  # some weights are clipped
    weight = jnp.asarray(np.random.default_rng(0).normal(size=weights.shape), jnp.float32)

    def loss(scale):
        return jnp.sum(weight * rounded_through(weights, grid.replace(scale=scale), UP, spec))

    w, s, z = (np.asarray(v, np.float64) for v in (weights, grid.scale, grid.zero))
    low, high = (-4, 3) if symmetric else (0, 7)
    position, code = w / s, np.round(w / s)
    inside = (position + z >= low) & (position + z <= high)
    slope = np.where(inside, code - position, np.clip(code + z, low, high) - z)
    want = (np.asarray(weight) * slope).sum(axis=1, keepdims=True)
    assert inside.mean() < 1
    np.testing.assert_allclose(jax.grad(loss)(grid.scale), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_rounding_with_a_gradient_is_the_quantizers(granularity):
    weights = leaf_paths(random_params())[UP]
    for symmetric in (True, False):
        spec = QuantSpec(bits=3, granularity=granularity, group_size=5, symmetric=symmetric)
        grid = leaf_grid(0.7 * weights, jnp.zeros((), bool), UP, spec)
        plain = quantize_leaf(weights, jnp.zeros((), bool), UP, spec, grid=grid)
        np.testing.assert_array_equal(rounded_through(weights, grid, UP, spec), plain)


def relative_damages(params, config, mask, grids) -> np.ndarray:
    base = evaluate_encoded(params, ENCODED, config)
    tree = quantize_tree(params, mask, SPEC, config, grids=grids)
    quantized = evaluate_encoded(tree, ENCODED, config)
    return np.array([quantized.nats[n].sum() / base.nats[n].sum() - 1 for n in base.nats])


@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_learning_helps_on_its_sentences_and_says_by_how_much(objective):
    params, config = model_of("gpt2")
    mask = masks.by_magnitude(params, fraction=0.05)
    options = Learning(objective=objective, steps=30, learning_rate=0.03, check_every=5)
    learned = learn_ranges(params, mask, SPEC, config, ENCODED, options=options)
    damages = relative_damages(params, config, mask, learned.grids)
    reached = damages.mean() if objective == "mean" else damages.max()
    assert reached == pytest.approx(learned.objective, abs=1e-5)
    assert learned.objective == min(learned.history) < learned.history[0]
    assert sum(learned.multipliers.values()) == pytest.approx(1.0)
    again = learn_ranges(params, mask, SPEC, config, ENCODED, options=options)
    assert again.history == learned.history
    for path, grid in learned.grids.items():
        np.testing.assert_array_equal(grid.scale, again.grids[path].scale)


def test_learning_that_only_does_harm_returns_its_start():
    params, config = model_of("gpt2")
    nothing, spec = masks.none(params), QuantSpec(bits=8)
    rows = [[0, first] for first in (1, 2, 3, 4)]
    for row in rows:  # the model's own words, which any other weights say worse
        for _ in range(4):
            logits = forward(params, jnp.asarray([row]), config)
            row.append(int(jnp.argmax(logits[0, -1])))
    spoken = encoded_of(rows, OWNERS)
    wild = Learning(steps=3, learning_rate=50.0, check_every=1)
    learned = learn_ranges(params, nothing, spec, config, spoken, options=wild)
    assert learned.objective == learned.history[0] < min(learned.history[1:])
    for path, grid in weighted_mse_grids(params, nothing, spec, {}).items():
        np.testing.assert_array_equal(grid.scale, learned.grids[path].scale)


def test_languages_count_as_their_multipliers_say():
    params, config = model_of("gpt2")
    nothing = masks.none(params)
    reached = {}
    for language in ENCODED.languages:
        learned = learn_ranges(
            params, nothing, SPEC, config, ENCODED, multipliers={language: 2.0}, options=QUICK
        )
        damages = relative_damages(params, config, nothing, learned.grids)
        reached[language] = dict(zip(ENCODED.languages, damages, strict=True))
        assert reached[language][language] == pytest.approx(learned.objective, abs=1e-5)
    for language in ENCODED.languages:  # each language fares best with its own ranges
        assert reached[language][language] == min(of[language] for of in reached.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Learning(objective="best"), "`objective` is 'best'; allowed are mean, worst"),
        (lambda: Learning(steps=0), "`steps` is 0"),
        (lambda: Learning(check_every=0), "`check_every` is 0"),
        (lambda: Learning(learning_rate=0.0), "`learning_rate` is 0.0"),
        (lambda: Learning(eagerness=-1.0), "`eagerness` is -1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"fra_Latn": 1.0}, "`multipliers` has 'fra_Latn'"),
        ({"eng_Latn": -1.0}, "`multipliers` has -1.0"),
        ({"eng_Latn": 0.0}, "`multipliers` are all 0"),
    ],
)
def test_multipliers_that_cannot_be_are_refused(multipliers, message):
    params, config = model_of("gpt2")
    with pytest.raises(InputError, match=message):
        learn_ranges(params, masks.none(params), SPEC, config, ENCODED, multipliers=multipliers)
