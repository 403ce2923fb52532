"""Laws of the quantizer on any finite weights, extreme ones too, and any mask."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxprotect.quantization.quantize import quantize_leaf
from jaxprotect.quantization.spec import QuantSpec

PATH = "blocks/mlp/up/kernel"
SHAPE = (1, 12, 3)  # layers, inputs, outputs: blocks are columns, or groups of 5 in one
SPECS = [
    QuantSpec(bits=4, granularity="channel"),
    QuantSpec(bits=2, granularity="group", group_size=5),
    QuantSpec(bits=3, granularity="channel", symmetric=False),
    QuantSpec(bits=8, granularity="tensor", scale_from="all"),
]
by_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)

# Above 1e-30, so that neither scale nor weight is subnormal, which XLA may flush to zero.
numbers = st.one_of(
    st.just(0.0),
    st.floats(-1, 1, width=32).map(lambda x: x if abs(x) > 1e-30 else 0.0),
    st.floats(2.0**-90, 2.0**120, width=32).flatmap(lambda x: st.sampled_from([x, -x])),
)
weights = arrays.arrays(np.float32, SHAPE, elements=numbers)
flags = arrays.arrays(np.bool_, SHAPE)


@functools.cache
def program(spec: QuantSpec):
    return jax.jit(lambda values, mask: quantize_leaf(values, mask, PATH, spec))


def quantized(values: np.ndarray, mask: np.ndarray, spec: QuantSpec) -> np.ndarray:
    return np.asarray(program(spec)(values, mask))


@by_spec
@given(values=weights, mask=flags)
@settings(deadline=None)
def test_protected_weights_keep_every_bit_and_the_others_stay_near(values, mask, spec):
    found = quantized(values, mask, spec)
    np.testing.assert_array_equal(found[mask].view(np.int32), values[mask].view(np.int32))
    assert np.isfinite(found).all()
    # No weight moves by more than half a step; a step is at most the range over its levels.
    reach = np.abs(values.astype(np.float64)).max()
    levels = 2 ** (spec.bits - 1) - 1 if spec.symmetric else 2**spec.bits - 1
    step = (1 if spec.symmetric else 2) * reach / levels
    assert np.abs(found.astype(np.float64) - values).max() <= step * (0.5 + 1e-5)


@by_spec
@given(values=weights, mask=flags)
@settings(deadline=None)
def test_larger_weights_of_a_channel_do_not_become_smaller(values, mask, spec):
    if spec.granularity == "group":
        values, mask = values.copy(), mask.copy()
        values[:, 5:], mask[:, 5:] = 0, False  # one group only
    found = np.where(mask, np.nan, quantized(values, mask, spec))
    for column in range(SHAPE[2]):
        kept = ~mask[0, :, column]
        order = np.argsort(values[0, kept, column], kind="stable")
        assert (np.diff(found[0, kept, column][order]) >= 0).all()


@by_spec
@given(values=weights, mask=flags, power=st.integers(-20, 5))
@settings(deadline=None)
def test_a_power_of_two_changes_nothing_but_the_scale(values, mask, spec, power):
    factor = np.float32(2.0**power)
    np.testing.assert_array_equal(
        quantized(values * factor, mask, spec), quantized(values, mask, spec) * factor
    )


@pytest.mark.parametrize("spec", [s for s in SPECS if s.symmetric], ids=lambda spec: spec.label)
@given(values=weights, mask=flags)
@settings(deadline=None)
def test_symmetric_quantizers_do_not_know_the_sign(values, mask, spec):
    np.testing.assert_array_equal(quantized(-values, mask, spec), -quantized(values, mask, spec))
