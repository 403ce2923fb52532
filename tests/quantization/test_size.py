import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.census import census_of
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.blocks import scale_blocks
from jaxprotect.quantization.indices import Counts, count_flags, index_bytes
from jaxprotect.quantization.size import original_size, protected_size
from jaxprotect.quantization.spec import SEED_SPEC, QuantSpec
from jaxprotect.quantization.tensor_size import marginal_bits
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.tiny import CONFIG, SEPARATE, random_params

SHAPES = parameter_shapes(CONFIG)
PARAMS = random_params()
SPECS = [
    QuantSpec(
        bits=bits,
        granularity=granularity,
        group_size=5,
        symmetric=symmetric,
        eligible=eligible,
        protected_dtype=dtype,
    )
    for bits, dtype, symmetric in (
        (3, "float16", True),
        (4, "float32", False),
        (8, "bfloat16", True),
    )
    for granularity, eligible in (
        ("channel", "matrices"),
        ("tensor", "weights"),
        ("group", "everything"),
    )
]
SPEC_PARAMETERS = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.label}-{s.eligible}")


def one_leaf(path: str, shape: tuple[int, ...], flags=False) -> tuple[dict, dict]:
    """(shapes, mask) trees of a single leaf."""
    shapes, mask = jax.ShapeDtypeStruct(shape, jnp.float32), np.asarray(flags)
    for key in reversed(path.split("/")):
        shapes, mask = {key: shapes}, {key: mask}
    return shapes, mask


def dense(mask: dict, shapes: dict) -> dict:
    return jax.tree.map(lambda m, w: np.broadcast_to(m, w.shape), mask, shapes)


@pytest.mark.parametrize(
    ("options", "codes", "scales"),
    [
        ({"bits": 4}, 8, 3 * 4),  # 15 weights of 4 bits: 7.5 bytes
        ({"bits": 3}, 6, 3 * 4),  # 45 bits: 5.6 bytes
        ({"bits": 8, "symmetric": False}, 15, 3 * 5),
        ({"granularity": "tensor"}, 8, 4),
        ({"granularity": "tensor", "symmetric": False}, 8, 5),
        ({"granularity": "group", "group_size": 2}, 8, 3 * 3 * 4),  # 2 + 2 + 1 inputs
        ({"granularity": "group", "group_size": 5, "symmetric": False}, 8, 3 * 5),
        ({"granularity": "group", "group_size": 64}, 8, 3 * 4),
    ],
)
def test_codes_and_scales_by_hand(options, codes, scales):
    shapes, mask = one_leaf("blocks/mlp/up/kernel", (2, 5, 3))
    size = protected_size(shapes, mask, QuantSpec(**options))
    for layer, tensor in enumerate(size.tensors):
        assert (tensor.path, tensor.layer) == ("blocks/mlp/up/kernel", layer)
        assert (tensor.weights, tensor.protected) == (15, 0)
        assert (tensor.codes, tensor.scales) == (codes, scales)
        assert (tensor.values, tensor.index, tensor.index_format) == (0, 0, "none")
    assert len(size.tensors) == 2
    assert size.total == size.unprotected_total == 2 * (codes + scales)
    assert size.bits_per_weight == 8 * (codes + scales) / 15


def scattered(shape: tuple[int, int], count: int) -> np.ndarray:
    """`count` flags of which no row or column is full, and some are empty."""
    flags = np.zeros(shape, bool)
    flags[1:, 1:].flat[:count] = True
    return flags


@pytest.mark.parametrize(
    ("shape", "flags", "index_format", "index"),
    [
        ((10, 20), np.isin(np.arange(10), [3, 7])[:, None], "rows", 2 * 2),
        ((10, 20), np.isin(np.arange(20), [0, 5, 6]), "columns", 3 * 2),
        ((10, 20), scattered((10, 20), 1), "coordinate", 4),
        ((10, 200), scattered((10, 200), 50), "sparse", 10 * 2 + 50),  # 8-bit columns
        ((10, 257), scattered((10, 257), 50), "sparse", 10 * 2 + 50 * 2),  # 16-bit columns
        ((10, 20), scattered((10, 20), 100), "bitmap", 25),
        ((3, 3), scattered((3, 3), 3), "bitmap", 2),  # 9 bits
        ((10, 20), False, "none", 0),
    ],
)
def test_indices_by_hand(shape, flags, index_format, index):
    shapes, mask = one_leaf("embed/tokens", shape, flags)
    (tensor,) = protected_size(shapes, mask, QuantSpec(protected_dtype="float16")).tensors
    protected = np.broadcast_to(flags, shape).sum()
    assert (tensor.index_format, tensor.index) == (index_format, index)
    assert (tensor.protected, tensor.values) == (protected, 2 * protected)
    assert tensor.codes == math.ceil(shape[0] * shape[1] / 2)
    assert tensor.total == tensor.codes + 4 * shape[0] + 2 * protected + index
    assert tensor.layer is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"outputs": 65536, "inputs": 8, "protected": 8, "rows": 1}, ("rows", 2)),
        ({"outputs": 65537, "inputs": 8, "protected": 8, "rows": 1}, ("rows", 4)),
        ({"outputs": 8, "inputs": 65537, "protected": 8, "columns": 1}, ("columns", 4)),
        ({"outputs": 2, "inputs": 256, "protected": 9}, ("sparse", 2 * 2 + 9)),
        ({"outputs": 2, "inputs": 65535, "protected": 999}, ("sparse", 2 * 2 + 999 * 2)),
        # A full row's count, 65536, needs 4 bytes where the largest column, 65535, needs 2.
        ({"outputs": 2, "inputs": 65536, "protected": 999}, ("sparse", 2 * 4 + 999 * 2)),
        ({"outputs": 2, "inputs": 65537, "protected": 999}, ("coordinate", 999 * 4)),
        ({"outputs": 2**16, "inputs": 2**16, "protected": 9}, ("coordinate", 9 * 4)),
        ({"outputs": 2**16 + 1, "inputs": 2**16, "protected": 9}, ("coordinate", 9 * 8)),
        ({"outputs": 5, "inputs": 5, "protected": 25, "rows": 5, "columns": 5}, ("whole", 0)),
        ({"outputs": 1, "inputs": 9, "protected": 2, "columns": 2}, ("bitmap", 2)),
        # One full row, but not all of the protected weights.
        ({"outputs": 10, "inputs": 200, "protected": 201, "rows": 1}, ("sparse", 20 + 201)),
        ({"outputs": 200, "inputs": 10, "protected": 201, "columns": 1}, ("bitmap", 250)),
        # Equally cheap: the first of the list.
        ({"outputs": 1, "inputs": 16, "protected": 1, "columns": 1}, ("columns", 2)),
        ({"outputs": 3, "inputs": 40, "protected": 2}, ("coordinate", 2 * 4)),
        ({"outputs": 2, "inputs": 64, "protected": 12}, ("sparse", 2 * 2 + 12)),
    ],
)
def test_widths_and_ties_of_indices(counts, expected):
    assert index_bytes(Counts(**counts)) == expected


def test_full_rows_and_columns_are_counted_beside_scattered_weights():
    flags = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0]], bool)
    counts = count_flags(flags, (3, 4), (1,))
    assert counts == Counts(outputs=3, inputs=4, protected=7, rows=1, columns=1)


def test_a_vector_is_one_row_and_has_one_scale():
    flags = np.arange(200) < 10
    shapes, mask = one_leaf("blocks/mlp/up/bias", (1, 200), flags)
    (tensor,) = protected_size(shapes, mask, QuantSpec(eligible="everything")).tensors
    assert (tensor.index_format, tensor.index) == ("sparse", 2 + 10)
    assert (tensor.codes, tensor.scales, tensor.values) == (100, 4, 40)


def test_heads_are_rows_of_their_inputs_and_columns_of_the_output():
    size = protected_size(SHAPES, masks.heads(PARAMS, {1: [0, 3]}), QuantSpec())
    formats = {(t.path, t.layer): (t.index_format, t.index) for t in size.tensors if t.protected}
    assert formats == {
        ("blocks/attention/qkv/kernel", 1): ("rows", 3 * 8 * 2),  # q, k, v: 2 heads of 4
        ("blocks/attention/out/kernel", 1): ("columns", 8 * 2),
    }


@pytest.mark.parametrize("config", [CONFIG, SEPARATE], ids=["fused", "separate"])
@pytest.mark.parametrize("spec", SPECS[:6], ids=lambda spec: spec.label)
def test_as_many_scales_as_the_quantizer_has(spec, config):
    params = random_params(config)
    size = protected_size(params, masks.none(params), spec)
    for path, leaf in leaf_paths(params).items():
        if is_eligible(path, spec.eligible):
            view, axes = scale_blocks(leaf, path, spec)
            blocks = view.size // math.prod(view.shape[axis] for axis in axes)
            scales = sum(tensor.scales for tensor in size.tensors if tensor.path == path)
            assert scales == blocks * (4 if spec.symmetric else 5), path


@SPEC_PARAMETERS
def test_everything_protected_is_the_original_size(spec):
    size = protected_size(SHAPES, masks.everything(SHAPES), spec)
    assert size.total == original_size(SHAPES, spec.protected_dtype)
    assert size.index_bytes == 0
    assert {tensor.index_format for tensor in size.tensors} == {"whole"}


@SPEC_PARAMETERS
def test_nothing_protected_is_codes_scales_and_the_rest(spec):
    size = protected_size(SHAPES, masks.none(SHAPES), spec)
    rest = {p: s for p, s in leaf_paths(SHAPES).items() if not is_eligible(p, spec.eligible)}
    assert size.other == original_size(rest, spec.protected_dtype)
    assert size.total == sum(t.codes + t.scales for t in size.tensors) + size.other
    assert (size.overhead, size.protected) == (0, 0)
    assert size.weights == masks.eligible_count(PARAMS, spec.eligible)


@SPEC_PARAMETERS
def test_masks_of_the_same_content_have_the_same_size(spec):
    for mask in (
        masks.layers(PARAMS, [1]),
        masks.heads(PARAMS, {0: [2]}),
        masks.components(PARAMS, ["mlp", "norms"]),
    ):
        size = protected_size(SHAPES, mask, spec)
        full = dense(mask, SHAPES)
        assert size == protected_size(SHAPES, full, spec)
        assert size == protected_size(SHAPES, jax.tree.map(jnp.asarray, full), spec)
        assert size.protected == masks.count(mask, PARAMS, spec.eligible)


LEAVES = {
    "blocks/attention/qkv/kernel": ((2, 3, 3, 2, 2), lambda w: w.reshape(3, 12).T),
    "blocks/attention/out/kernel": ((2, 2, 2, 3), lambda w: w.reshape(4, 3).T),
    "blocks/mlp/down/bias": ((2, 5), lambda w: w.reshape(1, 5)),
    "embed/positions": ((4, 3), lambda w: w),
}
"""Leaf path -> (shape, a tensor of it as [outputs, inputs])."""


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_counts_of_broadcast_flags_are_those_of_every_weight(data):
    path = data.draw(st.sampled_from(sorted(LEAVES)))
    shape, as_matrix = LEAVES[path]
    small = [data.draw(st.sampled_from([1, length])) for length in shape]
    small = small[data.draw(st.integers(0, len(small))) :]
    count = math.prod(small)
    flags = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    shapes, mask = one_leaf(path, shape, np.array(flags, bool).reshape(small))
    spec = QuantSpec(eligible="everything")
    size = protected_size(shapes, mask, spec)
    assert size == protected_size(shapes, dense(mask, shapes), spec)

    (full,) = jax.tree.leaves(dense(mask, shapes))
    tensors = full if path.startswith("blocks") else [full]
    for tensor, weights in zip(size.tensors, tensors, strict=True):
        matrix = as_matrix(weights)
        counts = Counts(
            outputs=matrix.shape[0],
            inputs=matrix.shape[1],
            protected=sum(map(sum, matrix.tolist())),
            rows=sum(map(all, matrix.tolist())),
            columns=sum(map(all, matrix.T.tolist())),
        )
        assert (tensor.index_format, tensor.index) == index_bytes(counts)
        assert (tensor.weights, tensor.protected) == (matrix.size, counts.protected)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_more_protected_weights_never_have_fewer_values_or_a_dearer_index_than_a_bitmap(
    outputs, inputs, seed, some, more
):
    draws = np.random.default_rng(seed).random((outputs, inputs))
    sizes = []
    for fraction in sorted((some, more)):
        shapes, mask = one_leaf("embed/tokens", draws.shape, draws < fraction)
        (tensor,) = protected_size(shapes, mask, QuantSpec()).tensors
        assert tensor.values == 4 * (draws < fraction).sum()
        assert tensor.index <= math.ceil(draws.size / 8)
        sizes.append(tensor.values)
    assert sizes == sorted(sizes)


def test_a_tensor_cheaper_whole_than_quantized_has_an_overhead_below_zero():
    shapes, mask = one_leaf("embed/tokens", (3, 4), True)
    spec = QuantSpec(bits=8, granularity="group", group_size=1, protected_dtype="float16")
    size = protected_size(shapes, mask, spec)
    assert (size.total, size.unprotected_total) == (2 * 12, (1 + 4) * 12)
    assert size.overhead == -36


def test_rows_add_up():
    mask = jax.tree.map(lambda w: np.asarray(w) > 0.5, PARAMS)
    size = protected_size(SHAPES, mask, QuantSpec(protected_dtype="float16"))
    model, *parts, other = size.rows()
    names = ["attention", "mlp", "token_embedding", "position_embedding"]
    assert [model["part"], other["part"]] == ["model", "other"]
    assert [row["part"] for row in parts] == names
    for key in model.keys() - {"part"}:
        assert model[key] == sum(row[key] for row in (*parts, other)), key
    for row in (model, *parts, other):
        summed = ("codes", "scales", "values", "index", "other")
        assert row["total"] == sum(row[key] for key in summed)
    assert (model["total"], model["index"]) == (size.total, size.index_bytes)
    assert (model["protected"], model["weights"]) == (size.protected, size.weights)
    assert size.overhead == size.total - size.unprotected_total == model["values"] + model["index"]
    assert size.bits_per_weight == 8 * (size.total - size.other) / size.weights


def test_gpt2_under_the_seed_protocol():
    shapes = parameter_shapes(census_of("gpt2").config)
    assert original_size(shapes, "float32") == 4 * 124_439_808
    size = protected_size(shapes, masks.none(shapes), SEED_SPEC)
    tensors = 2 + 12 * 6 + 1  # embeddings; four kernels and two gains a block; the last gain
    biases = 124_439_808 - 124_337_664
    assert size.total == 124_337_664 // 2 + 4 * tensors + 4 * biases


def test_above_32_bits_from_shapes_alone():
    # 2 layers of 2^33 weights: [inputs 65536, heads 1024, head_dim 128].
    path, shape = "blocks/attention/q/kernel", (2, 65536, 1024, 128)
    flags = np.zeros((65536, 1, 1), bool)
    flags[[5, 9]] = True
    size = protected_size(*one_leaf(path, shape, flags), QuantSpec())
    for tensor in size.tensors:
        assert (tensor.weights, tensor.protected) == (2**33, 2 * 2**17)
        assert (tensor.index_format, tensor.index) == ("columns", 2 * 2)
    assert size.unprotected_total == 2 * (2**32 + 4 * 2**17)
    assert size.overhead == 2 * (2**20 + 4)
    assert original_size(one_leaf(path, shape)[0], "bfloat16") == 2**35

    shape, flags = (1, 65536, 4, 2**15), np.zeros((1, 65536, 4, 1), bool)
    flags[0, 7, 2] = True  # the weights of one input to one head
    (tensor,) = protected_size(*one_leaf(path, shape, flags), QuantSpec()).tensors
    assert (tensor.index_format, tensor.index) == ("coordinate", 2**15 * 8)

    everything = protected_size(*one_leaf(path, shape, True), QuantSpec())
    assert (everything.protected, everything.total) == (2**33, 2**35)


@pytest.mark.parametrize("inputs", [192, 768, 3072, 70_000])
@pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.0035, 0.05, 0.1, 0.5])
def test_marginal_bits_are_the_slope_of_the_size(inputs, fraction):
    outputs, spec = 10_000, QuantSpec(protected_dtype="bfloat16")
    count = int(fraction * outputs * inputs)

    def bits(more: int) -> int:
        counts = Counts(outputs=outputs, inputs=inputs, protected=count + more)
        return 8 * (index_bytes(counts)[1] + 2 * counts.protected)

    assert marginal_bits(spec, fraction, inputs=inputs) == (bits(101) - bits(1)) / 100


def test_marginal_bits_by_hand():
    whole, half = QuantSpec(), QuantSpec(protected_dtype="float16")
    assert marginal_bits(whole, 0.0) == 32 + 32  # a value and a coordinate
    assert marginal_bits(half, 0.0035) == 16 + 16  # a value and a column
    assert marginal_bits(half, 0.0025, inputs=256) == 16 + 32  # less than one weight a row
    assert marginal_bits(half, 0.02, inputs=256) == 16 + 8
    assert marginal_bits(half, 1.0) == 16  # the bitmap is there already


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": -0.1}, "`fraction` is -0.1; allowed are 0 to 1"),
        ({"fraction": math.nan}, "`fraction` is nan"),
        ({"fraction": 0.5, "inputs": 0}, "`inputs` is 0; it must be at least 1"),
    ],
)
def test_bad_price(options, words):
    with pytest.raises(InputError, match=words):
        marginal_bits(QuantSpec(), **options)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (np.zeros((6, 1), bool), r"`mask` at embed/tokens has shape \(6, 1\).*\(5, 3\)"),
        (np.zeros((1, 5, 3), bool), r"`mask` at embed/tokens has shape \(1, 5, 3\)"),
        (np.zeros((5, 3), np.int8), "`mask` at embed/tokens has dtype int8; it must be bool"),
    ],
)
def test_masks_that_do_not_fit(flags, words):
    with pytest.raises(InputError, match=words):
        protected_size(*one_leaf("embed/tokens", (5, 3), flags), QuantSpec())


def test_leaves_that_no_model_has():
    shapes, mask = one_leaf("embed/tokens", (5, 3))
    with pytest.raises(InputError, match=r"`mask` and .* differ in the leaves .*'embed/tokens'"):
        protected_size(shapes, {"embed": {"other": mask["embed"]["tokens"]}}, QuantSpec())
    with pytest.raises(InputError, match=r"at embed/other has shape .* no such leaf"):
        protected_size(*one_leaf("embed/other", (5, 3)), QuantSpec())
    with pytest.raises(InputError, match=r"at embed/tokens has shape \(5,\); models have"):
        protected_size(*one_leaf("embed/tokens", (5,)), QuantSpec())
    with pytest.raises(InputError, match="`dtype` is 'int8'; allowed are"):
        original_size(shapes, "int8")
