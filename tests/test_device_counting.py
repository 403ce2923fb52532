import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.counting import kth_by_counting, order_keys
from jaxprotect.device_counting import is_elsewhere, kth_on_device, order_key
from jaxprotect.errors import InputError


def test_order_key_orders_extremes():
    values = jnp.array([-jnp.inf, -3e38, -1.0, -0.0, 0.0, 1e-30, 1.0, 3e38, jnp.inf])
    keys = np.asarray(order_key(values)).astype(np.int64)
    assert keys[3] == keys[4]
    assert (np.diff(np.delete(keys, 3)) > 0).all()
    np.testing.assert_array_equal(order_keys(np.asarray(values)), order_key(values))


@pytest.mark.parametrize("coarse", [False, True])
def test_the_kth_is_that_of_counting_on_the_host(coarse):
    draw = np.random.default_rng(3).standard_normal((2, 900)).astype(np.float32)
    draw[0, :90], draw[1, :30] = -np.inf, np.inf
    draw = np.round(draw) if coarse else draw
    leaves = {"a": jnp.asarray(draw[0]), "b": jnp.asarray(draw[1]).reshape(30, 30)}
    for k in (1, 29, 31, 400, 1000, 1711, 1800):
        assert kth_on_device(leaves, k) == kth_by_counting(leaves, k)


def test_half_precision_and_the_largest_key():
    leaves = {"a": jnp.asarray([1.0, 2.0, jnp.inf], jnp.bfloat16)}
    assert kth_on_device(leaves, 2) == kth_by_counting(leaves, 2)
    assert kth_on_device(leaves, 1)[1:] == (0, {"a": 1})


def test_nan_is_refused_by_leaf():
    with pytest.raises(InputError, match="`scores` at b have NaN"):
        kth_on_device({"a": jnp.ones(2), "b": jnp.array([jnp.nan])}, 1)


def test_arrays_of_the_host_are_not_elsewhere():
    assert not is_elsewhere({"a": jnp.ones(2), "b": np.ones(2)})
