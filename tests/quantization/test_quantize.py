import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible
from jaxprotect.quantization.quantize import quantize_leaf, quantize_leaves
from jaxprotect.quantization.spec import SEED_SPEC, QuantSpec
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, SEPARATE, random_params, trees_equal

SPECS = [
    QuantSpec(
        bits=bits,
        granularity=granularity,
        group_size=5,
        symmetric=symmetric,
        scale_from=scale_from,
        eligible="everything",
    )
    for bits in (2, 4, 8)
    for granularity in ("channel", "tensor", "group")
    for symmetric in (True, False)
    for scale_from in ("unprotected", "all")
]


@pytest.mark.parametrize(
    "config", [CONFIG, pytest.param(SEPARATE, marks=pytest.mark.slow)], ids=["fused", "separate"]
)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.label}-{spec.scale_from}")
def test_everything_protected_is_the_identity(spec, config):
    params = random_params(config)
    assert trees_equal(quantize_leaves(params, masks.everything(params), spec, config), params)


@pytest.mark.parametrize("spec", SPECS[:12:2], ids=lambda spec: spec.label)
def test_masks_of_the_same_content_give_the_same_weights(spec):
    params = random_params()
    small = masks.layers(params, [1])
    dense = jax.tree.map(lambda m, w: jnp.broadcast_to(m, w.shape), small, params)
    a, b = (quantize_leaves(params, mask, spec, CONFIG) for mask in (small, dense))
    assert trees_equal(a, b)


def numpy_symmetric(w: np.ndarray, bits: int, axes: tuple[int, ...]) -> np.ndarray:
    """scale = max|w| / qmax, codes rounded half to even and clamped."""
    qmax = 2 ** (bits - 1) - 1
    scale = np.abs(w).max(axis=axes, keepdims=True) / np.float32(qmax)
    return np.clip(np.round(w / scale), -qmax - 1, qmax) * scale


def test_symmetric_channel_and_tensor_follow_the_formula():
    params = random_params()
    kernel = np.asarray(params["blocks"]["attention"]["out"]["kernel"])
    for granularity, axes in (("channel", (1, 2)), ("tensor", (1, 2, 3))):
        spec = QuantSpec(bits=4, granularity=granularity)
        got = quantize_leaves(params, masks.none(params), spec, CONFIG)
        want = numpy_symmetric(kernel, 4, axes)
        np.testing.assert_array_equal(got["blocks"]["attention"]["out"]["kernel"], want)


def test_per_tensor_scales_are_per_checkpoint_tensor():
    params = random_params()
    kernel = params["blocks"]["mlp"]["up"]["kernel"]
    larger = kernel.at[1].multiply(100.0)  # must not touch layer 0's scale
    params["blocks"]["mlp"]["up"]["kernel"] = larger
    got = quantize_leaves(params, masks.none(params), QuantSpec(granularity="tensor"), CONFIG)
    alone = numpy_symmetric(np.asarray(kernel[0]), 4, (0, 1))
    np.testing.assert_array_equal(got["blocks"]["mlp"]["up"]["kernel"][0], alone)
    qkv = np.asarray(params["blocks"]["attention"]["qkv"]["kernel"])
    fused = numpy_symmetric(qkv, 4, (1, 2, 3, 4))  # q, k and v share one scale
    np.testing.assert_array_equal(got["blocks"]["attention"]["qkv"]["kernel"], fused)


def test_groups_are_consecutive_inputs_of_one_output_and_the_last_may_be_short():
    params = random_params()
    down = np.asarray(params["blocks"]["mlp"]["down"]["kernel"])  # [2, 64, 16]
    spec = QuantSpec(granularity="group", group_size=24)
    got = quantize_leaves(params, masks.none(params), spec, CONFIG)["blocks"]["mlp"]["down"][
        "kernel"
    ]
    pieces = [numpy_symmetric(down[:, i : i + 24], 4, (1,)) for i in (0, 24, 48)]
    np.testing.assert_array_equal(got, np.concatenate(pieces, axis=1))


def test_a_group_as_long_as_the_inputs_is_a_channel():
    params = random_params()
    group = QuantSpec(granularity="group", group_size=1000, symmetric=False)
    channel = QuantSpec(granularity="channel", symmetric=False)
    a, b = (quantize_leaves(params, masks.none(params), spec, CONFIG) for spec in (group, channel))
    assert trees_equal(a, b)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_levels_and_error_bound(bits, symmetric):
    spec = QuantSpec(bits=bits, symmetric=symmetric)
    w = jax.random.normal(jax.random.key(bits), (1, 256, 3)) + 0.3
    q = quantize_leaf(w, jnp.zeros((), bool), "blocks/mlp/up/kernel", spec)
    for channel in range(3):
        assert len(np.unique(np.asarray(q[0, :, channel]))) <= 2**bits
        column = w[0, :, channel]
        reach = jnp.abs(column).max() / (2 ** (bits - 1) - 1)
        span = (column.max().clip(0) - column.min().clip(None, 0)) / (2**bits - 1)
        step = reach if symmetric else span
        # Rounding the zero point can clip the outermost weights by up to half a step more.
        limit = 0.5 if symmetric else 1.0
        assert float(jnp.abs(q[0, :, channel] - column).max()) <= limit * float(step) * 1.0001


@pytest.mark.slow
def test_more_bits_and_finer_scales_are_better():
    params = random_params()

    def error(**options):
        q = quantize_leaves(params, masks.none(params), QuantSpec(**options), CONFIG)
        squares = jax.tree.map(lambda a, b: float(jnp.sum((a - b) ** 2)), q, params)
        return sum(jax.tree.leaves(squares))

    by_bits = [error(bits=bits) for bits in range(2, 9)]
    assert by_bits == sorted(by_bits, reverse=True)
    tensor, channel = error(granularity="tensor"), error(granularity="channel")
    group = error(granularity="group", group_size=4)
    assert group < channel < tensor


def test_scale_from_unprotected_ignores_the_outlier_and_from_all_does_not():
    w = jnp.array([[[10.0], [0.7], [-0.3], [0.1]]])
    mask = jnp.abs(w) > 5
    path = "blocks/mlp/up/kernel"
    fine = quantize_leaf(w, mask, path, QuantSpec(scale_from="unprotected"))
    coarse = quantize_leaf(w, mask, path, QuantSpec(scale_from="all"))
    np.testing.assert_allclose(fine[0, :, 0], [10.0, 0.7, -0.3, 0.1], atol=1e-6)
    np.testing.assert_array_equal(coarse[0, :, 0], [10.0, 0.0, 0.0, 0.0])


def test_zero_and_fully_protected_blocks_stay_finite():
    path = "blocks/mlp/up/kernel"
    for symmetric in (True, False):
        spec = QuantSpec(symmetric=symmetric)
        zeros = quantize_leaf(jnp.zeros((1, 4, 2)), jnp.zeros((), bool), path, spec)
        assert not zeros.any()
        w = jnp.ones((1, 4, 2))
        mask = jnp.array([True, False])  # the first channel has no weight left to scale
        assert np.isfinite(quantize_leaf(w, mask, path, spec)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_protected_weights_and_other_leaves_are_stored_as_asked(dtype):
    params = random_params()
    spec = QuantSpec(protected_dtype=dtype)
    got = quantize_leaves(params, masks.everything(params), spec, CONFIG)
    assert trees_equal(got, jax.tree.map(lambda w: w.astype(dtype).astype(jnp.float32), params))


def test_norms_and_biases_are_not_touched_in_full_precision():
    params = random_params()
    got = quantize_leaves(params, masks.none(params), QuantSpec(bits=2), CONFIG)
    assert trees_equal(got["norm"], params["norm"])


def test_protected_weights_in_int8_have_one_scale_per_tensor():
    params = random_params()
    kernel = np.asarray(params["blocks"]["mlp"]["up"]["kernel"])
    mask = masks.by_magnitude(params, fraction=0.1)
    flags = np.asarray(mask["blocks"]["mlp"]["up"]["kernel"])
    spec = QuantSpec(bits=3, protected_dtype="int8")
    got = np.asarray(quantize_leaves(params, mask, spec, CONFIG)["blocks"]["mlp"]["up"]["kernel"])
    for layer in range(CONFIG.layers):
        kept = kernel[layer][flags[layer]]
        scale = np.abs(kept).max() / np.float32(127)
        np.testing.assert_array_equal(got[layer][flags[layer]], np.round(kept / scale) * scale)
    plain = quantize_leaves(params, mask, QuantSpec(bits=3), CONFIG)["blocks"]["mlp"]["up"][
        "kernel"
    ]
    np.testing.assert_array_equal(got[~flags], np.asarray(plain)[~flags])


def test_eligibility_policies():
    params = random_params()
    for policy in ("matrices", "weights", "everything"):
        got = quantize_leaves(
            params, masks.none(params), QuantSpec(bits=2, eligible=policy), CONFIG
        )
        changed = map_leaves(lambda p, a, b: bool(jnp.any(a != b)), got, params)
        for path, flag in leaf_paths(changed).items():
            assert flag == is_eligible(path, policy), (policy, path)


def test_seed_protocol_quantizer():
    params = random_params()
    mask = masks.by_magnitude(params, fraction=0.1, eligible="weights", ties="all")
    got = leaf_paths(quantize_leaves(params, mask, SEED_SPEC, CONFIG))
    for path, w in leaf_paths(params).items():
        w = np.asarray(w)
        axes = tuple(range(1, w.ndim)) if path.startswith("blocks") else None
        keep = np.broadcast_to(leaf_paths(mask)[path], w.shape)
        plain = numpy_symmetric(w, 4, axes if axes else tuple(range(w.ndim)))
        want = w if path.endswith("bias") else np.where(keep, w, plain)
        np.testing.assert_array_equal(got[path], want, err_msg=path)


@pytest.mark.parametrize("bits", ["int4", "int8"])
def test_qwix_rounds_the_same_given_the_same_scale(bits):
    w = jax.random.normal(jax.random.key(5), (64, 12))
    spec = QuantSpec(bits=int(bits[3:]))
    ours = quantize_leaf(w[None], jnp.zeros((), bool), "blocks/mlp/up/kernel", spec)[0]
    scale = jnp.abs(w).max(axis=0, keepdims=True) / (2 ** (spec.bits - 1) - 1)
    theirs = qwix.QArray(
        qvalue=jnp.clip(jnp.round(w / scale), -(2 ** (spec.bits - 1)), 2 ** (spec.bits - 1) - 1)
        .astype(jnp.int8)
        .astype(bits),
        scale=scale,
        zero_point=None,
        qtype=bits,
    )
    np.testing.assert_allclose(ours, qwix.dequantize(theirs), rtol=1e-6)
    # qwix's own scale is absmax / (qmax + 0.5): a different grid, close but not the same.
    own = qwix.dequantize(qwix.quantize(w, bits, channelwise_axes=[1]))
    assert float(jnp.abs(own - ours).max()) < float(scale.max())


def test_jit_equals_eager_and_compiles_once_for_masks_of_one_shape():
    params = random_params()
    traces = []

    def traced(params, mask):
        traces.append(1)
        return quantize_leaves(params, mask, QuantSpec(), CONFIG)

    compiled = jax.jit(traced)
    for fraction in (0.01, 0.1, 0.5):
        mask = masks.by_magnitude(params, fraction=fraction)
        assert trees_equal(
            compiled(params, mask), quantize_leaves(params, mask, QuantSpec(), CONFIG)
        )
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 1}, "`bits` is 1; allowed are 2 to 8"),
        ({"bits": 9}, "`bits` is 9"),
        ({"group_size": 0}, "`group_size` is 0"),
    ],
)
def test_bad_spec(options, words):
    with pytest.raises(InputError, match=words):
        QuantSpec(**options)


@pytest.mark.parametrize(
    "field", ["granularity", "scale_from", "eligible", "protected_dtype", "ranges"]
)
def test_bad_choice(field):
    # Past the type checker of the tests, as a script without one would come.
    spec = QuantSpec()
    object.__setattr__(spec, field, "nonsense")
    with pytest.raises(InputError, match=f"`{field}` is 'nonsense'; allowed are"):
        spec.__post_init__()


def test_params_or_mask_of_another_model():
    params, other = random_params(), random_params(SEPARATE)
    with pytest.raises(InputError, match="`params` and the model differ"):
        quantize_leaves(other, masks.none(other), QuantSpec(), CONFIG)
    with pytest.raises(InputError, match="`mask` and the model differ"):
        quantize_leaves(params, masks.none(other), QuantSpec(), CONFIG)
    mask = masks.none(params)
    mask["norm"]["scale"] = np.zeros(3, bool)
    with pytest.raises(InputError, match=r"`mask` at norm/scale has shape \(3,\)"):
        quantize_leaves(params, mask, QuantSpec(), CONFIG)
