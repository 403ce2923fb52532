"""Protected weights and whole units beside mixed bits: gains, sizes, INT8."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.precision import WIDTHS, bits_of_units, uniform_bits, unit_ids
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.tensor_size import marginal_bits
from jaxprotect.selection import masks
from jaxprotect.selection.byte_budget import fill_bytes
from jaxprotect.selection.gains import predicted_damage, rounding, scale_relief
from jaxprotect.selection.guided import language_guided
from jaxprotect.selection.mixed_protection import bits_and_weights, protect_within
from jaxprotect.selection.unit_damages import unit_damages
from jaxprotect.selection.whole_units import candidates, choose_units
from jaxprotect.trees import leaf_paths
from tests.tiny import CONFIG, random_params, random_square, trees_equal

NATS = {"eng_Latn": 1000.0, "heb_Hebr": 700.0}
UP = "blocks/mlp/up/kernel"
INT8 = QuantSpec(bits=3, protected_dtype="int8")
HALF = QuantSpec(bits=3, protected_dtype="float16")


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.fixture(scope="module")
def squares(params):
    return {name: random_square(params, i) for i, name in enumerate(NATS)}


@pytest.fixture(scope="module")
def mixed(params):
    """Bits of 2, 3, 4, 8 and 16, by channel."""
    units = unit_ids(params, "channel", HALF)
    count = 1 + max(int(ids.max()) for ids in units.values())
    return bits_of_units(units, np.random.default_rng(0).choice([2, 3, 4, 8, 16], count))


def lost(params, squares, spec, mask, bits):
    """1/2 sum F (Q(w) - w)^2 of the truly quantized model, by language."""
    quantized = leaf_paths(quantize_leaves(params, mask, spec, CONFIG, bits=bits))
    return {
        name: 0.5
        * sum(
            float(jnp.sum(F * jnp.square(quantized[p] - leaf_paths(params)[p])))
            for p, F in leaf_paths(tree).items()
            if p in bits
        )
        / NATS[name]
        for name, tree in squares.items()
    }


@pytest.mark.parametrize("symmetric", [True, False])
def test_errors_under_bits_are_those_of_the_mixed_quantizer(params, squares, mixed, symmetric):
    spec = QuantSpec(bits=3, symmetric=symmetric)
    nothing = masks.none(params)
    found = rounding(params, nothing, spec, mixed)
    quantized = leaf_paths(quantize_leaves(params, nothing, spec, CONFIG, bits=mixed))
    for path, error in found.error.items():
        expected = np.square(quantized[path] - leaf_paths(params)[path])
        np.testing.assert_allclose(error, expected, rtol=1e-3, atol=1e-9, err_msg=path)
    predicted = predicted_damage(squares["heb_Hebr"], found, nothing) / NATS["heb_Hebr"]
    assert predicted == pytest.approx(
        lost(params, squares, spec, nothing, mixed)["heb_Hebr"], rel=1e-3
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_relief_under_bits_is_that_of_each_width(params, mixed, symmetric):
    spec = QuantSpec(bits=3, symmetric=symmetric)
    found = rounding(params, masks.none(params), spec, mixed).relief[UP]
    weights = leaf_paths(params)[UP]
    wide = np.broadcast_to(mixed[UP], weights.shape)
    for width in (2, 4, 8):
        alone = scale_relief(weights, UP, QuantSpec(bits=width, symmetric=symmetric))
        np.testing.assert_allclose(
            np.asarray(found)[wide == width], alone[wide == width], rtol=1e-4
        )
    assert not np.asarray(found)[wide == 16].any()


def test_one_width_everywhere_is_the_plain_choice(params, squares):
    bits = uniform_bits(unit_ids(params, "tensor", HALF), 3)
    plain = language_guided(params, squares, NATS, HALF, count=100)
    other = language_guided(
        params, squares, NATS, QuantSpec(bits=6, protected_dtype="float16"), count=100, bits=bits
    )
    assert trees_equal(plain.mask, other.mask)


def test_the_guided_set_helps_as_stored_and_no_kept_row_is_in_it(params, squares, mixed):
    nothing = masks.none(params)
    left = {}
    for spec in (HALF, INT8):
        choice = language_guided(params, squares, NATS, spec, count=200, bits=mixed)
        before, after = (lost(params, squares, spec, m, mixed) for m in (nothing, choice.mask))
        assert max(after.values()) < 0.9 * max(before.values())
        left[spec] = max(after.values())
        for path, bits in mixed.items():
            kept = np.broadcast_to(bits == 16, leaf_paths(params)[path].shape)
            assert not (np.asarray(leaf_paths(choice.mask)[path]) & kept).any()
    assert left[HALF] < left[INT8] < 1.05 * left[HALF]


def test_int8_protection_is_one_byte_cheaper_per_weight(params, squares):
    for fraction in (0.0, 0.01, 0.3):
        assert marginal_bits(HALF, fraction) - marginal_bits(INT8, fraction) == 8
    bits = uniform_bits(unit_ids(params, "tensor", HALF), 3)
    budget = 300 + protected_size(params, masks.none(params), HALF, bits).total
    counts = [
        masks.count(protect_within(params, squares, NATS, spec, bits, budget=budget), params)
        for spec in (HALF, INT8)
    ]
    assert counts[1] > counts[0] > 0


@pytest.mark.parametrize("spec", [HALF, INT8], ids=["float16", "int8"])
def test_protected_weights_fill_what_bits_leave(params, squares, mixed, spec):
    plain = protected_size(params, masks.none(params), spec, mixed).total
    for more in (0, 1, 400):
        mask = protect_within(params, squares, NATS, spec, mixed, budget=plain + more)
        size = protected_size(params, mask, spec, mixed).total
        assert size <= plain + more
        assert (size > plain + 0.9 * more) == (more == 400)
    with pytest.raises(InputError, match=f"without protection the model has {plain}"):
        protect_within(params, squares, NATS, spec, mixed, budget=plain - 1)


def test_a_budget_beside_bits_is_filled(params, mixed):
    def top(count):
        return masks.random(params, count=count)

    plain = protected_size(params, masks.none(params), HALF, mixed).total
    mask = fill_bytes(top, 500, params, HALF, start=100, most=2000, bits=mixed)
    assert 480 <= protected_size(params, mask, HALF, mixed).total - plain <= 500


@pytest.mark.parametrize(
    "spec", [HALF, pytest.param(INT8, marks=pytest.mark.slow)], ids=["float16", "int8"]
)
def test_bits_and_weights_share_a_budget(params, squares, spec):
    table = unit_damages(params, squares.__getitem__, NATS, spec, "tensor")
    budget = protected_size(params, masks.none(params), spec).total + 300
    seen = []

    def measure(mask, bits):
        seen.append((mask, bits))
        assert protected_size(params, mask, spec, bits).total <= budget
        return lost(params, squares, spec, mask, bits)

    made = bits_and_weights(
        params, squares, NATS, spec, table, level="tensor", budget=budget, measure=measure
    )
    assert made.size == protected_size(params, made.mask, spec, made.bits).total <= budget
    assert masks.count(made.mask, params) > 0
    measured = [max(lost(params, squares, spec, *pair).values()) for pair in seen]
    protecting = [
        worst for worst, (m, _) in zip(measured, seen, strict=True) if masks.count(m, params)
    ]
    assert max(made.measured.values()) == pytest.approx(min(protecting))


def test_splits_that_are_none(params, squares):
    table = unit_damages(params, squares.__getitem__, NATS, HALF, "tensor")
    options = {"level": "tensor", "measure": lambda mask, bits: dict.fromkeys(NATS, 1.0)}
    for shares in ((), (1.0,), (-0.1,)):
        with pytest.raises(InputError, match="`shares` is"):
            bits_and_weights(
                params, squares, NATS, HALF, table, budget=10**6, shares=shares, **options
            )
    with pytest.raises(InputError, match="`alternations` is 0"):
        bits_and_weights(
            params, squares, NATS, HALF, table, budget=10**6, alternations=0, **options
        )
    with pytest.raises(InputError, match="the smallest possible file has"):
        bits_and_weights(params, squares, NATS, HALF, table, budget=100, **options)


@pytest.mark.parametrize(("whole", "level"), [("heads", "head"), ("layers", "layer")])
def test_whole_units_are_kept_while_they_fit(params, squares, whole, level):
    table = unit_damages(params, squares.__getitem__, NATS, HALF, level, (3, 16))
    nothing = masks.none(params)
    sizes = [
        protected_size(params, nothing, HALF, uniform_bits(table.units, 3)).total,
        10**6,
    ]
    flags = candidates(table.units, whole)
    assert flags.sum() == {"heads": 8, "layers": 2}[whole]
    kept = []
    for budget in (sizes[0], sizes[0] + 5000, sizes[1]):
        made = choose_units(params, table, HALF, whole=whole, base=3, budget=budget)
        assert made.size <= budget
        chosen = np.zeros(len(flags), bool)
        for path, ids in table.units.items():
            chosen[ids[made.bits[path] == 16]] = True
        assert not (chosen & ~flags).any()
        kept.append(int(chosen.sum()))
    assert kept[0] == 0
    assert kept[2] == flags.sum()
    assert 0 < kept[1] <= kept[2]


def test_whole_units_that_are_none(params, squares):
    table = unit_damages(params, squares.__getitem__, NATS, HALF, "head", WIDTHS[:3])
    with pytest.raises(InputError, match="`whole` is 'rows'"):
        choose_units(params, table, HALF, whole="rows", base=3, budget=10**6)
    with pytest.raises(InputError, match="`base` is 3; the table has"):
        choose_units(params, table, HALF, whole="heads", base=3, budget=10**6)
