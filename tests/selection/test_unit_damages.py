"""Predicted damage of units at widths, against the quantized model weight by weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import layer_axis
from jaxprotect.quantization.precision import WIDTHS, bits_of_units, unit_count, unit_ids
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.unit_damages import (
    PRIOR,
    corrected,
    language_unit_damages,
    unit_damages,
    width_correction,
)
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, random_params

NATS = {"eng_Latn": 100.0, "heb_Hebr": 50.0}


@pytest.fixture(scope="module")
def params():
    return random_params()


def random_square(params, seed=0):
    generator = np.random.default_rng(seed)
    return map_leaves(
        lambda path, leaf: jnp.asarray(generator.exponential(size=leaf.shape), jnp.float32), params
    )


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        (QuantSpec(protected_dtype="float16"), "channel"),
        (QuantSpec(protected_dtype="int8"), "head"),
        (QuantSpec(granularity="group", group_size=5, symmetric=False), "tensor"),
        (QuantSpec(eligible="everything"), "channel"),
    ],
)
def test_any_choice_adds_up_to_what_the_quantizer_does(params, spec, level):
    square, mask = random_square(params), masks.by_magnitude(params, fraction=0.05)
    units = unit_ids(params, level, spec)
    table = language_unit_damages(params, square, units, spec, WIDTHS, mask=mask)
    chosen = np.random.default_rng(1).integers(5, size=unit_count(units))  # 2 to 6 bits
    bits = bits_of_units(units, np.array(WIDTHS)[chosen])
    quantized = leaf_paths(
        quantize_tree(params, mask, spec, CONFIG, bits=jax.tree.map(jnp.asarray, bits))
    )
    raised = {
        p: F + PRIOR * jnp.mean(F, [a for a in range(F.ndim) if a != layer_axis(p)], keepdims=True)
        for p, F in leaf_paths(square).items()
        if p in units
    }
    expected = sum(
        0.5 * float(jnp.sum(F * jnp.square(quantized[p] - leaf_paths(params)[p])))
        for p, F in raised.items()
    )
    assert table[np.arange(len(chosen)), chosen].sum() == pytest.approx(expected, rel=1e-4)


def test_a_row_without_gradients_still_costs_something(params):
    """A token that the sentences do not have must not look free."""
    spec, path, row = QuantSpec(), "embed/tokens", 3
    square = random_square(params)
    square["embed"]["tokens"] = square["embed"]["tokens"].at[row].set(0.0)
    units = unit_ids(params, "channel", spec)
    unit = int(units[path].reshape(-1)[row])
    blind = language_unit_damages(params, square, units, spec, (2, 4), prior=0.0)
    wary = language_unit_damages(params, square, units, spec, (2, 4))
    error = jnp.square(
        quantize_tree(params, masks.none(params), QuantSpec(bits=2), CONFIG)["embed"]["tokens"][row]
        - params["embed"]["tokens"][row]
    )
    mean = float(square["embed"]["tokens"].mean())
    assert blind[unit].tolist() == [0.0, 0.0]
    assert wary[unit, 0] == pytest.approx(0.5 * PRIOR * mean * float(error.sum()), rel=1e-4)
    assert (wary >= blind).all()


def test_more_bits_do_less_damage(params):
    units = unit_ids(params, "tensor", QuantSpec())
    table = language_unit_damages(params, random_square(params), units, QuantSpec(), WIDTHS)
    assert (np.diff(table, axis=1) < 0).all()
    assert not table[:, -1].any()  # kept in float32


def test_the_levels_are_sums_of_channels(params):
    spec, square = QuantSpec(), random_square(params)
    made = {
        level: language_unit_damages(params, square, unit_ids(params, level, spec), spec)
        for level in ("channel", "head", "tensor", "layer")
    }
    for table in made.values():
        np.testing.assert_allclose(table.sum(axis=0), made["channel"].sum(axis=0), rtol=1e-5)


def test_languages_are_read_one_by_one_and_are_relative(params):
    squares = {name: random_square(params, i) for i, name in enumerate(NATS)}
    asked = []

    def square(language):
        asked.append(language)
        return squares[language]

    table = unit_damages(params, square, NATS, QuantSpec(), "tensor", (2, 4))
    assert asked == list(NATS)
    assert table.damages.shape == (10, 2, 2)
    units = unit_ids(params, "tensor", QuantSpec())
    for row, (name, nats) in enumerate(NATS.items()):
        alone = language_unit_damages(params, squares[name], units, QuantSpec(), (2, 4))
        np.testing.assert_allclose(table.damages[:, :, row], alone / nats)


def test_corrected_at_one_width_everywhere_it_says_what_was_measured(params):
    table = unit_damages(params, lambda _: random_square(params), NATS, QuantSpec(), "tensor")
    predicted = table.damages.sum(axis=0)
    uniform = {
        2: {"eng_Latn": 2 * predicted[0, 0], "heb_Hebr": 0.5 * predicted[0, 1]},
        4: {"eng_Latn": 1e3 * predicted[2, 0], "heb_Hebr": -1.0},
    }
    factors = width_correction(table, uniform)
    np.testing.assert_allclose(factors[0], [2, 0.5])
    np.testing.assert_allclose(factors[2], [10, 0.1])  # what is trusted at most
    assert (np.delete(factors, [0, 2], axis=0) == 1).all()
    np.testing.assert_allclose(
        corrected(table, factors).damages.sum(axis=0)[0], list(uniform[2].values())
    )


def test_statistics_that_do_not_fit_are_refused(params):
    spec = QuantSpec()
    good = random_square(params)
    cut = map_leaves(lambda path, leaf: leaf[:1], good)
    broken = map_leaves(lambda path, leaf: jnp.full_like(leaf, jnp.nan), good)
    with pytest.raises(InputError, match="`nats` is empty"):
        unit_damages(params, lambda _: good, {}, spec, "tensor")
    with pytest.raises(InputError, match="`square` at blocks/attention/out/kernel"):
        unit_damages(params, lambda _: cut, NATS, spec, "tensor")
    with pytest.raises(InputError, match="`square` or `nats` in eng_Latn"):
        unit_damages(params, lambda _: broken, NATS, spec, "tensor")
    with pytest.raises(InputError, match="`square` or `nats` in heb_Hebr"):
        unit_damages(params, lambda _: good, NATS | {"heb_Hebr": 0.0}, spec, "tensor")
    with pytest.raises(InputError, match="`widths` is"):
        unit_damages(params, lambda _: good, NATS, spec, "tensor", (4, 11))
