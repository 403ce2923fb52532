"""Packed arrays: as many bytes as the size says, and what `quantize` computes, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.grid import leaf_grid
from jaxprotect.quantization.index_arrays import Arrays
from jaxprotect.quantization.layout import model_layout
from jaxprotect.quantization.levels import Grid
from jaxprotect.quantization.matrices import tensor_name
from jaxprotect.quantization.packed_params import is_packed, packed_params, unpack_params
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import SEED_SPEC, QuantSpec
from jaxprotect.selection import masks
from tests.quantization.packing_cases import (
    CASES,
    mixed_bits,
    name_of,
    random_mask,
    tiny_values,
)
from tests.tiny import CONFIG, random_params

FAST = (0,)
"""Every other case compiles programs for new shapes."""

SOME_SLOW = [
    pytest.param(found, marks=[] if found[2] in FAST else pytest.mark.slow) for found in CASES
]
UP = "blocks/mlp/up/kernel"
PARTS = {"codes": "codes", "widths": "codes", "scales": "scales", "zeros": "scales"}
PARTS |= {"rows": "values", "values": "values", "value_scale": "values", "index": "index"}


def packed(params, mask, spec, config=CONFIG, **options) -> dict[str, Arrays]:
    """All tensors at once; eager, as the shapes are too small to be worth compiling."""
    with jax.disable_jit():
        return dict(pack_tensors(params, mask, spec, config, **options))


def assert_bits_equal(a: dict, b: dict) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.shape == y.shape
        np.testing.assert_array_equal(np.asarray(x).view(np.int32), np.asarray(y).view(np.int32))


@pytest.mark.parametrize("found", SOME_SLOW, ids=name_of)
def test_unpacked_is_quantized_and_the_bytes_are_those_predicted(found):
    config, spec, seed, mixed = found
    params = tiny_values(random_params(config, seed))
    mask = random_mask(params, seed)
    bits = mixed_bits(params, spec, seed) if mixed else None
    tensors = packed(params, mask, spec, config, bits=bits)

    size, summed = protected_size(params, mask, spec, bits), 0
    for tensor in size.tensors:
        arrays = tensors[tensor_name(tensor.path, tensor.layer)]
        sums = dict.fromkeys(("codes", "scales", "values", "index"), 0)
        for part, array in arrays.items():
            sums[PARTS[part.split(".")[0]]] += array.nbytes
        assert sums == {part: getattr(tensor, part) for part in sums}, tensor
        summed += tensor.total
    everything = [array for arrays in tensors.values() for array in arrays.values()]
    assert sum(array.nbytes for array in everything) == size.total == summed + size.other
    layout = model_layout(parameter_shapes(config), mask, spec, bits)
    assert layout == {
        f"{name}.{part}" if part else name: (array.dtype, array.shape)
        for name, arrays in tensors.items()
        for part, array in arrays.items()
    }

    with jax.disable_jit():
        kernels = packed_params(tensors.__getitem__, spec, config)
        expected = quantize_leaves(params, mask, spec, config, bits=bits)
    assert is_packed(kernels)
    assert_bits_equal(unpack_params(kernels, config), expected)


def test_every_format_of_an_index_is_among_the_cases():
    formats = set()
    for config, spec, seed, _ in CASES:
        mask = random_mask(random_params(config), seed)
        tensors = protected_size(parameter_shapes(config), mask, spec).tensors
        formats |= {tensor.index_format for tensor in tensors}
    wanted = {"none", "whole", "rows", "columns", "coordinate", "sparse", "bitmap"}
    assert formats == wanted


@pytest.mark.slow
def test_compiled_packing_is_the_same_as_eager_and_as_compiled_quantizing():
    params = random_params()
    mask = masks.by_magnitude(params, fraction=0.05)
    spec = QuantSpec(bits=3, symmetric=False, protected_dtype="float16")
    tensors = dict(pack_tensors(params, mask, spec, CONFIG))
    for name, arrays in packed(params, mask, spec).items():
        for part, array in arrays.items():
            np.testing.assert_array_equal(array, tensors[name][part])
    unpacked = unpack_params(packed_params(tensors.__getitem__, spec, CONFIG), CONFIG)
    run = jax.jit(quantize_leaves, static_argnums=(2, 3))
    assert_bits_equal(unpacked, run(params, mask, spec, CONFIG))


@pytest.mark.parametrize("make", [masks.none, masks.everything])
def test_broadcast_masks_and_the_seed_protocol(make):
    params = random_params()
    tensors = packed(params, make(params), SEED_SPEC)
    with jax.disable_jit():
        kernels = packed_params(tensors.__getitem__, SEED_SPEC, CONFIG)
        expected = quantize_leaves(params, make(params), SEED_SPEC, CONFIG)
    assert_bits_equal(unpack_params(kernels, CONFIG), expected)
    if make is masks.everything:
        assert_bits_equal(expected, params)


@pytest.mark.parametrize("granularity", ["channel", pytest.param("group", marks=pytest.mark.slow)])
def test_given_grids_are_stored(granularity):
    params, mask = random_params(), masks.none(random_params())
    spec = QuantSpec(granularity=granularity, group_size=5, ranges="learned")
    plain = QuantSpec(granularity=granularity, group_size=5)
    grids = {}
    for path in ("embed/tokens", "embed/positions", UP, "blocks/mlp/down/kernel"):
        weights = leaf(params, path)
        found = leaf_grid(weights, jnp.zeros((), bool), path, plain)
        grids[path] = Grid(scale=0.8 * found.scale, zero=found.zero)
    grids |= {
        path: leaf_grid(leaf(params, path), jnp.zeros((), bool), path, plain)
        for path in ("blocks/attention/qkv/kernel", "blocks/attention/out/kernel")
    }
    tensors = packed(params, mask, spec, grids=grids)
    with jax.disable_jit():
        kernels = packed_params(tensors.__getitem__, spec, CONFIG)
        expected = quantize_leaves(params, mask, spec, CONFIG, grids=grids)
    assert_bits_equal(unpack_params(kernels, CONFIG), expected)


def leaf(params, path):
    for key in path.split("/"):
        params = params[key]
    return params


def grid_of(spec: QuantSpec, scale: float, zero: float) -> Grid:
    found = leaf_grid(leaf(random_params(), UP), jnp.zeros((), bool), UP, spec)
    return Grid(scale=jnp.full_like(found.scale, scale), zero=jnp.full_like(found.zero, zero))


@pytest.mark.parametrize(
    ("symmetric", "grid", "message"),
    [
        (False, (1.0, 2.5), "`blocks.0.mlp.up.kernel` has other zero points; allowed: whole"),
        (False, (1.0, -1.0), "other zero points; allowed: whole numbers 0 to 255"),
        (True, (1.0, 1.0), "other zero points; allowed: 0, as `spec.symmetric` is true"),
        (True, (np.inf, 0.0), "`blocks.0.mlp.up.kernel` has 64 non-finite of 64 scales"),
    ],
)
def test_grids_that_no_byte_holds_are_refused(symmetric, grid, message):
    params, spec = random_params(), QuantSpec(symmetric=symmetric)
    with pytest.raises(InputError, match=message):
        packed(params, masks.none(params), spec, grids={UP: grid_of(spec, *grid)})


def test_grids_of_other_blocks_are_refused():
    params = random_params()
    wrong = grid_of(QuantSpec(granularity="group", group_size=5), 1.0, 0.0)
    with pytest.raises(InputError, match=r"`grids`|Incompatible|broadcast"):
        packed(params, masks.none(params), QuantSpec(), grids={UP: wrong})


@pytest.mark.parametrize(
    ("path", "bits", "message"),
    [
        ("embed/tokens", None, "`embed.tokens` has 1 non-finite of 50 protected values in float16"),
        ("norm/bias", None, "`norm.bias` has 1 non-finite of 16 values in float16"),
        (UP, 16, "`blocks.0.mlp.up.kernel` has 1 non-finite of 1024 rows of 16 bits in float16"),
    ],
)
def test_values_that_overflow_float16_are_refused_by_tensor(path, bits, message):
    params = random_params()
    weights = leaf(params, path)
    leaf(params, path.rpartition("/")[0])[path.rpartition("/")[2]] = weights.at[
        (0,) * weights.ndim
    ].set(7e4)
    mask = masks.none(params)
    mask["embed"]["tokens"] = np.abs(np.asarray(params["embed"]["tokens"])) > 0.55
    given = {UP: np.full((1, 1, 1), bits)} if bits else None
    with pytest.raises(InputError, match=message):
        packed(params, mask, QuantSpec(protected_dtype="float16"), bits=given)
    packed(params, mask, QuantSpec(protected_dtype="bfloat16"), bits=given)


def test_params_of_another_dtype_are_refused():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), random_params())
    with pytest.raises(InputError, match="`params` at blocks/attention/out/bias are bfloat16"):
        packed(params, masks.none(params), QuantSpec())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("scales"), "has nothing as `scales`; expected float32 "),
        (lambda t: t.update(other=t["scales"]), "as `other`; expected nothing"),
        (lambda t: t.update({"codes.4": t["codes.4"][1:]}), r"uint8 \(511,\) as `codes.4`"),
        (lambda t: t.update(scales=t["scales"].astype(np.float64)), "has float64 "),
        (lambda t: t.update({"index.rows": np.array([64], np.uint16)}), "the rows index does not"),
        (lambda t: t.clear(), "has nothing as `values`; expected float32"),
    ],
)
def test_arrays_that_no_tensor_has_are_refused_by_tensor(change, message):
    params = random_params()
    tensors = packed(params, masks.none(params), QuantSpec())
    change(tensors["blocks.1.mlp.up.kernel"])
    with pytest.raises(InputError, match=f"`blocks.1.mlp.up.kernel`.*{message}"):
        packed_params(tensors.__getitem__, QuantSpec(), CONFIG)
    tensors = packed(params, masks.none(params), QuantSpec())
    tensors["norm.bias"] = {}
    with pytest.raises(InputError, match=r"`norm.bias` has \{\}; expected float32 \(16,\)"):
        packed_params(tensors.__getitem__, QuantSpec(), CONFIG)
