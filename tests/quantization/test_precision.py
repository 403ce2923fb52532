"""Units of mixed precision, and what they cost at each width."""

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.grid import check_bits
from jaxprotect.quantization.precision import (
    LEVELS,
    WIDTHS,
    bits_of_units,
    uniform_bits,
    unit_bytes,
    unit_count,
    unit_ids,
)
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import CONFIGS
from tests.tiny import CONFIG, SEPARATE, random_params

SPECS = [
    QuantSpec(bits=4, granularity="channel", protected_dtype="float16"),
    QuantSpec(bits=4, granularity="group", group_size=5, symmetric=False),
    QuantSpec(bits=4, granularity="tensor"),
    QuantSpec(bits=4, eligible="everything", protected_dtype="int8"),
]
CASES = [
    pytest.param(spec, level, id=f"{spec.label}-{spec.eligible}-{level}")
    for spec in SPECS
    for level in LEVELS
    if spec.granularity != "tensor" or level in ("layer", "tensor")
]


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.mark.parametrize(
    ("config", "level", "expected"),
    [
        (CONFIG, "layer", 2 + 2),  # embeddings outside the blocks
        (CONFIG, "tensor", 2 * 4 + 2),
        (CONFIG, "head", 2 * (4 + 3) + 2),
        (CONFIG, "channel", 2 * (48 + 16 + 64 + 16) + 37 + 24),
        (SEPARATE, "layer", 2 + 3),
        (SEPARATE, "tensor", 2 * 6 + 3),
        (SEPARATE, "head", 2 * (4 + 3) + 3),
        (SEPARATE, "channel", 2 * (48 + 16 + 40 + 16) + 37 + 26 + 37),
        (CONFIGS["mistral"], "head", 2 * (2 + 4) + 2),  # gate, up, down, out; no positions
        (CONFIGS["mistral"], "channel", 2 * (16 + 8 + 8 + 10 + 10 + 10 + 10) + 11 + 11),
    ],
)
def test_how_many_units_there_are_and_none_is_missing(config, level, expected):
    units = unit_ids(random_params(config), level, QuantSpec())
    assert unit_count(units) == expected
    everyone = np.concatenate([ids.reshape(-1) for ids in units.values()])
    assert set(everyone.tolist()) == set(range(expected))


def test_a_head_is_its_channels_of_q_k_and_v():
    units = unit_ids(random_params(SEPARATE), "head", QuantSpec())
    q, k, v = (units[f"blocks/attention/{n}/kernel"] for n in "qkv")
    np.testing.assert_array_equal(q, k)
    np.testing.assert_array_equal(q, v)
    assert q.shape == (2, 1, 4, 4)
    assert (q == q[..., :1]).all()
    assert len(np.unique(q)) == 8
    assert not set(np.unique(q)) & set(np.unique(units["blocks/attention/out/kernel"]))
    fused = unit_ids(random_params(), "head", QuantSpec())["blocks/attention/qkv/kernel"]
    np.testing.assert_array_equal(fused[:, :, 0], fused[:, :, 2])


def test_heads_that_share_keys_and_values_are_one_unit():
    units = unit_ids(random_params(CONFIGS["mistral"]), "head", QuantSpec())
    q, k, v = (units[f"blocks/attention/{n}/kernel"][:, 0, :, 0] for n in "qkv")
    np.testing.assert_array_equal(k, v)
    np.testing.assert_array_equal(q, np.repeat(k, 2, axis=1))
    assert len(np.unique(q)) == 2 * 2


def test_a_layer_is_all_matrices_of_a_block(params):
    units = unit_ids(params, "layer", QuantSpec())
    of_blocks = [ids for path, ids in units.items() if path.startswith("blocks")]
    for ids in of_blocks[1:]:
        assert set(ids[0].reshape(-1)) == set(of_blocks[0][0].reshape(-1))
        assert not set(ids[0].reshape(-1)) & set(ids[1].reshape(-1))


@pytest.mark.parametrize(("spec", "level"), CASES)
def test_bits_of_units_are_bits_that_the_quantizer_takes(params, spec, level):
    units = unit_ids(params, level, spec)
    widths = np.random.default_rng(0).choice(WIDTHS, unit_count(units))
    shapes = {path: leaf.shape for path, leaf in leaf_paths(params).items()}
    bits = bits_of_units(units, widths)
    check_bits(bits, shapes, spec)
    for path, ids in units.items():
        np.testing.assert_array_equal(bits[path], np.vectorize(widths.__getitem__)(ids))


@pytest.mark.parametrize(("spec", "level"), CASES)
def test_sums_of_unit_bytes_enclose_the_size_of_the_model(params, spec, level):
    nothing = masks.none(params)
    units = unit_ids(params, level, spec)
    costs = unit_bytes(params, units, spec, WIDTHS)
    rest = protected_size(params, nothing, spec).other
    for column, width in enumerate(WIDTHS):
        size = protected_size(params, nothing, spec, uniform_bits(units, width)).total
        total = costs.bytes[:, column].sum() + rest
        assert total - costs.rounding <= size <= total
    generator = np.random.default_rng(0)
    for _ in range(5):
        chosen = generator.integers(len(WIDTHS), size=unit_count(units))
        bits = bits_of_units(units, np.array(WIDTHS)[chosen])
        size = protected_size(params, nothing, spec, bits).total
        total = costs.bytes[np.arange(len(chosen)), chosen].sum() + rest
        assert total - costs.rounding <= size <= total + costs.tables
    if level in ("layer", "tensor"):
        assert costs.tables == costs.rounding == 0  # so that the sum is exact


def test_what_no_unit_or_width_is_is_refused(params):
    with pytest.raises(InputError, match="`level` is 'row'; allowed are layer, tensor"):
        unit_ids(params, "row", QuantSpec())
    for level in ("head", "channel"):
        with pytest.raises(InputError, match="needs scales inside tensors"):
            unit_ids(params, level, QuantSpec(granularity="tensor"))
    units = unit_ids(params, "tensor", QuantSpec())
    for widths in ((), (4, 4), (4, 9), (1,)):
        with pytest.raises(InputError, match="`widths` is"):
            unit_bytes(params, units, QuantSpec(), widths)
