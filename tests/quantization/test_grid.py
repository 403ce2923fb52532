"""Mixed precision and given grids: the quantizer's free parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, is_matrix
from jaxprotect.quantization.grid import check_bits, leaf_grid
from jaxprotect.quantization.quantize import (
    decode_leaf,
    encode_leaf,
    quantize,
    quantize_leaf,
    quantize_leaves,
    quantize_tree,
)
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, SEPARATE, random_params, trees_equal

UP = "blocks/mlp/up/kernel"
SPECS = [
    QuantSpec(bits=4, granularity=granularity, group_size=5, symmetric=symmetric)
    for granularity in ("channel", "tensor", "group")
    for symmetric in (True, False)
]
EACH_SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)


def uniform(params: dict, spec: QuantSpec, width: int) -> dict:
    """The same bits everywhere, as arrays of one number."""
    leaves = leaf_paths(params)
    return {p: np.full((1,) * w.ndim, width) for p, w in leaves.items() if is_matrix(p)}


def shuffled(params: dict, spec: QuantSpec, seed: int = 0) -> dict:
    """Each output channel (each tensor, under tensor scales) with bits of its own."""
    generator = np.random.default_rng(seed)
    bits = {}
    for path, w in leaf_paths(params).items():
        if is_matrix(path):
            inner = contracted_axes(path)
            if spec.granularity == "tensor":
                inner = tuple(range(1, w.ndim)) if path.startswith("blocks") else range(w.ndim)
            shape = [1 if axis in inner else size for axis, size in enumerate(w.shape)]
            bits[path] = generator.choice([2, 3, 4, 8, 16], shape)
    return bits


@EACH_SPEC
@pytest.mark.parametrize("width", [2, pytest.param(3, marks=pytest.mark.slow), 8])
def test_uniform_bits_are_the_uniform_quantizer(spec, width):
    params = random_params()
    mask = masks.by_magnitude(params, fraction=0.1)
    got = quantize_leaves(params, mask, spec, CONFIG, bits=uniform(params, spec, width))
    other = QuantSpec(
        bits=width, granularity=spec.granularity, group_size=5, symmetric=spec.symmetric
    )
    assert trees_equal(got, quantize_leaves(params, mask, other, CONFIG))
    size = protected_size(params, mask, spec, uniform(params, spec, width))
    assert size.total == protected_size(params, mask, other).total


@pytest.mark.parametrize(
    "config", [CONFIG, pytest.param(SEPARATE, marks=pytest.mark.slow)], ids=["fused", "separate"]
)
@EACH_SPEC
def test_each_channel_has_the_bits_it_was_given(spec, config):
    params = random_params(config)
    bits = shuffled(params, spec)
    got = leaf_paths(quantize_leaves(params, masks.none(params), spec, config, bits=bits))
    for path, widths in bits.items():
        weights = np.asarray(leaf_paths(params)[path])
        wide = np.broadcast_to(widths, weights.shape)
        for width in (2, 3, 4, 8):
            of_width = quantize_leaf(
                jnp.asarray(weights),
                jnp.zeros((), bool),
                path,
                QuantSpec(
                    bits=width, granularity=spec.granularity, group_size=5, symmetric=spec.symmetric
                ),
            )
            chosen = wide == width
            np.testing.assert_array_equal(
                np.asarray(got[path])[chosen], np.asarray(of_width)[chosen]
            )
        np.testing.assert_array_equal(np.asarray(got[path])[wide == 16], weights[wide == 16])


def test_sixteen_bits_everywhere_are_the_identity_and_cost_no_codes():
    params = random_params()
    spec = QuantSpec(bits=3, protected_dtype="float32")
    bits = uniform(params, spec, 16)
    mask = masks.by_magnitude(params, fraction=0.2)  # adds nothing where rows are kept
    assert trees_equal(quantize_leaves(params, mask, spec, CONFIG, bits=bits), params)
    size = protected_size(params, mask, spec, bits)
    assert size.total == protected_size(params, masks.everything(params), spec).total
    assert size.protected == size.weights


@EACH_SPEC
def test_mixed_sizes_are_those_of_rows_of_one_width_each(spec):
    params = random_params()
    bits = shuffled(params, spec)
    size = protected_size(params, masks.none(params), spec, bits)
    for tensor in size.tensors:
        leaf = leaf_paths(params)[tensor.path]
        inner = contracted_axes(tensor.path)
        shape = [1 if axis in inner else n for axis, n in enumerate(leaf.shape)]
        widths = np.broadcast_to(bits[tensor.path], shape)
        rows = (widths[tensor.layer] if tensor.layer is not None else widths).reshape(-1)
        inputs = tensor.weights // rows.size
        codes = sum(-(-int((rows == b).sum()) * inputs * b // 8) for b in (2, 3, 4, 8))
        table = -(-rows.size * 3 // 8) if len(set(rows.tolist())) > 1 else 0
        assert tensor.codes == codes + table
        assert tensor.values == int((rows == 16).sum()) * inputs * 4
        blocks = (rows != 16).sum()
        blocks *= -(-inputs // 5) if spec.granularity == "group" else 1
        blocks = min(blocks, 1) if spec.granularity == "tensor" else blocks
        assert tensor.scales == blocks * (4 if spec.symmetric else 5)


@EACH_SPEC
def test_a_given_grid_is_used_and_its_codes_decode_to_the_same_weights(spec):
    params = random_params()
    weights, nothing = params["blocks"]["mlp"]["up"]["kernel"], jnp.zeros((), bool)
    grid = leaf_grid(weights, nothing, UP, spec)
    same = quantize_leaves(params, masks.none(params), spec, CONFIG, grids={UP: grid})
    assert trees_equal(same, quantize_leaves(params, masks.none(params), spec, CONFIG))
    half = jax.tree.map(lambda scale: scale, grid).replace(scale=grid.scale / 2)
    narrow = quantize_leaves(params, masks.none(params), spec, CONFIG, grids={UP: half})
    codes = encode_leaf(weights, half, UP, spec)
    assert codes.dtype == jnp.uint8
    assert int(codes.max()) < 2**spec.bits
    np.testing.assert_array_equal(
        decode_leaf(codes, half, UP, spec), narrow["blocks"]["mlp"]["up"]["kernel"]
    )
    assert not np.array_equal(
        narrow["blocks"]["mlp"]["up"]["kernel"], same["blocks"]["mlp"]["up"]["kernel"]
    )


def test_bits_and_grids_compile_once_for_any_content():
    params = random_params()
    spec = QuantSpec(bits=4)
    before = quantize_tree._cache_size()
    for seed in range(3):
        bits = jax.tree.map(jnp.asarray, shuffled(params, spec, seed))
        eager = quantize_leaves(params, masks.none(params), spec, CONFIG, bits=bits)
        compiled = quantize(params, masks.none(params), spec, CONFIG, bits=bits)
        assert trees_equal(eager, compiled)
    assert quantize_tree._cache_size() == before + 1


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"blocks/mlp/sideways": np.full((1, 1, 1), 4)}, "a leaf that the model does not have"),
        ({"norm/scale": np.full((1,), 4)}, "a leaf that the model does not have"),
        ({UP: np.full((2, 16, 1), 4)}, "1 on the axes"),
        ({UP: np.full((1, 1), 4)}, "3 axes"),
        ({UP: np.full((1, 1, 3), 4)}, "has shape"),
        ({UP: np.full((1, 1, 1), 5.5)}, "allowed are integers"),
        ({UP: np.full((1, 1, 1), 1)}, r"has \[1\]; allowed are 2 to 8 and 16"),
        ({UP: np.full((1, 1, 1), 12)}, r"has \[12\]; allowed are 2 to 8 and 16"),
    ],
)
def test_bits_that_do_not_fit_are_refused(bits, message):
    params = random_params()
    with pytest.raises(InputError, match=message):
        quantize(params, masks.none(params), QuantSpec(), CONFIG, bits=bits)
    with pytest.raises(InputError, match=message):
        protected_size(params, masks.none(params), QuantSpec(), bits)


def test_bits_inside_a_tensor_need_scales_inside_it():
    shapes = {path: leaf.shape for path, leaf in leaf_paths(random_params()).items()}
    bits = {UP: np.full((2, 1, 64), 4)}
    check_bits(bits, shapes, QuantSpec(granularity="channel"))
    with pytest.raises(InputError, match="of a block"):
        check_bits(bits, shapes, QuantSpec(granularity="tensor"))


def test_a_grid_of_a_leaf_that_is_not_quantized_is_refused():
    params = random_params()
    grid = leaf_grid(params["blocks"]["mlp"]["up"]["kernel"], jnp.zeros((), bool), UP, QuantSpec())
    with pytest.raises(InputError, match="`grids` has 'norm/scale'"):
        quantize_leaves(params, masks.none(params), QuantSpec(), CONFIG, grids={"norm/scale": grid})


@pytest.mark.parametrize("ranges", ["activation_mse", "learned"])
def test_ranges_that_need_data_need_grids(ranges):
    params = random_params()
    spec = QuantSpec(ranges=ranges)
    with pytest.raises(InputError, match="needs data: give `grids`"):
        quantize_leaves(params, masks.none(params), spec, CONFIG)
    leaves = map_leaves(
        lambda path, w: leaf_grid(w, jnp.zeros((), bool), path, QuantSpec()), params
    )
    grids = {p: leaves_at(leaves, p) for p in leaf_paths(params) if is_matrix(p)}
    assert trees_equal(
        quantize_leaves(params, masks.none(params), spec, CONFIG, grids=grids),
        quantize_leaves(params, masks.none(params), QuantSpec(), CONFIG),
    )


def leaves_at(tree: dict, path: str):
    for key in path.split("/"):
        tree = tree[key]
    return tree


@pytest.mark.parametrize("sign", [1, -1])
def test_zero_points_are_codes_where_all_weights_have_one_sign(sign):
    spec = QuantSpec(symmetric=False, granularity="group", group_size=5)
    weights = sign * (2 + jnp.abs(random_params()["blocks"]["mlp"]["up"]["kernel"]))
    grid = leaf_grid(weights, jnp.zeros((), bool), UP, spec)
    assert (grid.zero == (0 if sign > 0 else 15)).all()
    rounded = quantize_leaf(weights, jnp.zeros((), bool), UP, spec)
    assert float(jnp.abs(rounded - weights).max()) <= 0.51 * float(grid.scale.max())
