"""A whole model with error compensation: laws of the grid and the mask, layer by layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_matrix
from jaxprotect.models.transformer import embed
from jaxprotect.quantization.changes import changed_codes
from jaxprotect.quantization.compensation import output_error
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection import masks
from jaxprotect.selection.compensated import block_moments, compensate
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.trees import leaf_paths
from tests.selection.test_sensitivity import ENCODED, model_of
from tests.tiny import trees_equal

pytestmark = pytest.mark.slow

SPEC = QuantSpec(bits=3, granularity="group", group_size=4)
FAMILIES = ["gpt2", "opt bare", "neox", "bloom", "mistral", "qwen2"]


@functools.cache
def compensated_of(name: str):
    params, config = model_of(name)
    mask = masks.by_magnitude(params, fraction=0.1)
    grids = weighted_mse_grids(params, mask, SPEC, {})
    return params, config, mask, grids, compensate(params, mask, SPEC, config, ENCODED, grids=grids)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_quantizer_leaves_compensated_weights_alone(name):
    params, config, mask, grids, compensated = compensated_of(name)
    again = quantize_tree(compensated, mask, SPEC, config, grids=grids)
    assert trees_equal(again, compensated)
    flags = leaf_paths(mask)
    for path, leaf in leaf_paths(compensated).items():
        kept = np.broadcast_to(flags[path], leaf.shape) if is_matrix(path) else np.ones(leaf.shape)
        kept = kept.astype(bool)
        np.testing.assert_array_equal(
            np.asarray(leaf)[kept], np.asarray(leaf_paths(params)[path])[kept]
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_kernel_of_a_product_is_compensated_and_no_table(name):
    params, config, mask, grids, compensated = compensated_of(name)
    plain = leaf_paths(quantize_tree(params, mask, SPEC, config, grids=grids))
    differing = {
        path
        for path, leaf in leaf_paths(compensated).items()
        if not np.array_equal(leaf, plain[path])
    }
    assert differing == {path for path in plain if path.endswith("kernel")}
    shares = changed_codes(params, mask, SPEC, calibrated=compensated, grids=grids)
    assert all(shares[path] > 0 for path in differing)


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_hold_the_squares_of_the_inputs(name):
    """Their diagonals, over the original model's inputs, are those of the statistics."""
    params, config = model_of(name)
    batch = ENCODED.batches[0]
    valid = np.flip(np.cumsum(np.flip(batch.scored[:, 1:], 1), axis=1), 1) > 0
    if config.embedding_norm:
        pytest.skip("its first stream is made inside run_blocks")
    x = embed(params, jnp.asarray(batch.tokens[:, :-1]), config)
    first = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    moments = block_moments(first, x, jnp.asarray(valid), jnp.asarray(0), config)
    inputs = language_statistics(params, ENCODED, config).inputs
    assert set(moments) == {path for path in inputs if path.startswith("blocks")}
    for path, moment in moments.items():
        want = np.asarray(inputs[path].square[0]).reshape(-1)
        np.testing.assert_allclose(jnp.diagonal(moment), want, rtol=1e-4, err_msg=path)


def test_outputs_of_the_first_matrix_err_less_than_under_plain_rounding():
    params, config, mask, grids, compensated = compensated_of("gpt2")
    plain = quantize_tree(params, mask, SPEC, config, grids=grids)
    batch = ENCODED.batches[0]
    valid = np.flip(np.cumsum(np.flip(batch.scored[:, 1:], 1), axis=1), 1) > 0
    x = embed(plain, jnp.asarray(batch.tokens[:, :-1]), config)
    first = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    path = "blocks/attention/qkv/kernel"
    moment = block_moments(first, x, jnp.asarray(valid), jnp.asarray(0), config)[path]
    original = leaf_paths(params)[path][0]
    ours, usual = (
        output_error((leaf_paths(tree)[path][0] - original).reshape(len(moment), -1), moment)
        for tree in (compensated, plain)
    )
    assert (ours <= usual * (1 + 1e-4)).all()
    assert ours.sum() < 0.9 * usual.sum()


def test_languages_count_as_they_are_weighed():
    params, config, mask, grids, both = compensated_of("gpt2")
    options = {"grids": grids}
    alike = compensate(
        params, mask, SPEC, config, ENCODED, weights={"eng_Latn": 3, "heb_Hebr": 3}, **options
    )
    assert trees_equal(alike, both)  # only their proportion counts
    alone = [  # with nothing protected, too
        compensate(
            params, masks.none(params), SPEC, config, ENCODED, weights={name: 1.0}, **options
        )
        for name in ENCODED.languages
    ]
    assert not trees_equal(*alone)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fra_Latn": 1.0}, "`weights` has 'fra_Latn'"),
        ({"eng_Latn": -1.0}, "`weights` has -1.0 for eng_Latn"),
        ({"eng_Latn": 0.0}, "`weights` are all 0"),
        ({}, "`weights` are all 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    params, config = model_of("gpt2")
    with pytest.raises(InputError, match=message):
        compensate(params, masks.none(params), SPEC, config, ENCODED, weights=weights)
