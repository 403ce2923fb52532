import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_matrix
from jaxprotect.quantization.changes import changed_codes
from jaxprotect.quantization.grid import leaf_grid
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import random_params

UP = "blocks/mlp/up/kernel"
SPEC = QuantSpec(bits=3)


def absmax_grids(params: dict) -> dict:
    nothing = jnp.zeros((), bool)
    return {
        path: leaf_grid(w, nothing, path, SPEC)
        for path, w in leaf_paths(params).items()
        if is_matrix(path)
    }


def test_a_calibration_that_did_nothing_is_refused():
    params = random_params()
    nothing, learned = masks.none(params), QuantSpec(bits=3, ranges="learned")
    with pytest.raises(InputError, match="the calibration did nothing"):
        changed_codes(params, nothing, SPEC)
    with pytest.raises(InputError, match="the calibration did nothing"):
        changed_codes(params, nothing, learned, grids=absmax_grids(params))
    with pytest.raises(InputError, match="the calibration did nothing"):
        changed_codes(params, masks.everything(params), QuantSpec(bits=3, ranges="mse"))


def test_one_block_is_enough_to_have_done_something():
    params = random_params()
    grids = absmax_grids(params)
    grids[UP] = grids[UP].replace(scale=grids[UP].scale.at[1, 0, 5].multiply(0.5))
    shares = changed_codes(params, masks.none(params), SPEC, grids=grids)
    assert 0 < shares[UP] <= 1 / 128  # at most one channel of 64 in one layer of 2
    assert not any(share for path, share in shares.items() if path != UP)


def test_codes_of_other_weights_are_counted():
    params = random_params()
    moved = map_leaves(lambda path, w: jnp.where(path == UP, -w, w), params)
    mask = map_leaves(lambda path, w: np.zeros((), bool), params)
    shares = changed_codes(params, mask, SPEC, calibrated=moved, grids=absmax_grids(params))
    assert shares[UP] > 0.5
    mask["blocks"]["mlp"]["up"]["kernel"] = np.ones((), bool)
    with pytest.raises(InputError, match="did nothing"):
        changed_codes(params, mask, SPEC, calibrated=moved, grids=absmax_grids(params) | {})
