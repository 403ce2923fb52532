import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect.errors import InputError
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import CONFIGS
from tests.tiny import CONFIG, SEPARATE, random_params

PARAMS = random_params()
TOTAL = masks.eligible_count(PARAMS)


def dense(mask, params=PARAMS):
    return jax.tree.map(lambda m, w: np.broadcast_to(m, w.shape), mask, params)


def test_eligible_counts():
    D, F, L, V, T = 16, 64, 2, 37, 24
    matrices = L * (4 * D * D + 2 * D * F) + V * D + T * D
    gains = D * (2 * L + 1)
    assert TOTAL == matrices
    assert masks.eligible_count(PARAMS, "weights") == matrices + gains
    biases = L * (3 * D + D + F + D) + gains
    assert masks.eligible_count(PARAMS, "everything") == matrices + gains + biases


@settings(max_examples=25, deadline=None)
@given(st.integers(0, TOTAL))
def test_magnitude_protects_exactly_the_k_largest(k):
    mask = masks.by_magnitude(PARAMS, count=k)
    assert masks.count(mask, PARAMS) == k
    kept = [np.abs(w)[m] for w, m in zip(*map(jax.tree.leaves, (PARAMS, dense(mask))), strict=True)]
    # Norms and biases are not eligible: they neither count nor are marked.
    matrices = [
        (np.abs(w), leaf_paths(dense(mask))[p])
        for p, w in leaf_paths(PARAMS).items()
        if p.endswith("kernel") or p.startswith("embed")
    ]
    left = [w[~m] for w, m in matrices]
    smallest = min((x.min() for x in kept if x.size), default=np.inf)
    largest = max((x.max() for x in left if x.size), default=-np.inf)
    assert smallest >= largest


def test_fraction_is_floored():
    mask = masks.by_magnitude(PARAMS, fraction=0.05)
    assert masks.count(mask, PARAMS) == int(0.05 * TOTAL)


def test_per_tensor_takes_the_same_share_of_every_checkpoint_tensor():
    mask = dense(masks.by_magnitude(PARAMS, fraction=0.25, per="tensor"))
    for path, leaf in leaf_paths(mask).items():
        if path.endswith("kernel"):
            assert all(layer.sum() == layer.size // 4 for layer in leaf), path
    assert leaf_paths(mask)["embed/tokens"].sum() == 37 * 16 // 4


def test_random_masks_are_exact_seeded_and_spread():
    a, again, b = (masks.random(PARAMS, count=500, seed=s) for s in (0, 0, 1))
    assert masks.count(a, PARAMS) == masks.count(b, PARAMS) == 500
    flat = [np.concatenate([x.ravel() for x in jax.tree.leaves(dense(m))]) for m in (a, again, b)]
    assert (flat[0] == flat[1]).all()
    overlap = (flat[0] & flat[2]).sum()  # about 500 * 500 / TOTAL = 38
    assert 10 < overlap < 90
    share = leaf_paths(dense(a))["blocks/mlp/up/kernel"].mean()
    assert 0.03 < share < 0.13  # 500 / 7120 is 0.07


def test_layers_heads_and_components_count_what_they_say():
    D, F, K = 16, 64, 4
    per_layer = 4 * D * D + 2 * D * F
    assert masks.count(masks.layers(PARAMS, [1]), PARAMS) == per_layer
    assert masks.count(masks.layers(PARAMS, [0, 1, 1]), PARAMS) == 2 * per_layer
    one_head = 3 * D * K + K * D
    assert masks.count(masks.heads(PARAMS, {0: [2]}), PARAMS) == one_head
    assert masks.count(masks.heads(PARAMS, {0: [0, 1], 1: [3]}), PARAMS) == 3 * one_head
    attention = masks.components(PARAMS, ["attention"])
    assert masks.count(attention, PARAMS) == 2 * 4 * D * D
    all_heads = masks.heads(PARAMS, {0: range(4), 1: range(4)})
    assert masks.count(all_heads, PARAMS) == 2 * 4 * D * D
    assert masks.count(masks.components(PARAMS, ["token_embedding"]), PARAMS) == 37 * D
    assert masks.count(masks.components(PARAMS, ["norms"]), PARAMS) == 0
    assert masks.count(masks.components(PARAMS, ["norms"]), PARAMS, "weights") == 5 * D


def test_a_head_is_its_slice_of_q_k_v_and_out():
    for config in (CONFIG, SEPARATE):
        params = random_params(config)
        mask = dense(masks.heads(params, {1: [3]}), params)["blocks"]["attention"]
        out = np.zeros((2, 4, 4, 16), bool)
        out[1, 3] = True
        np.testing.assert_array_equal(mask["out"]["kernel"], out)
        if config.fused_qkv:
            want = np.zeros((2, 16, 3, 4, 4), bool)
            want[1, :, :, 3] = True
            np.testing.assert_array_equal(mask["qkv"]["kernel"], want)
        else:
            want = np.zeros((2, 16, 4, 4), bool)
            want[1, :, 3] = True
            for name in "qkv":
                np.testing.assert_array_equal(mask[name]["kernel"], want)


def test_keys_that_heads_share_are_protected_with_any_of_them():
    config = CONFIGS["mistral"]  # 4 heads in 2 groups
    params = random_params(config)
    mask = dense(masks.heads(params, {1: [2]}), params)["blocks"]["attention"]
    assert [mask["q"]["kernel"][1, :, head].all() for head in range(4)] == [0, 0, 1, 0]
    assert [mask["out"]["kernel"][1, head].all() for head in range(4)] == [0, 0, 1, 0]
    for name in "kv":
        np.testing.assert_array_equal(mask[name]["kernel"].any(axis=(1, 3)), [[0, 0], [0, 1]])
        np.testing.assert_array_equal(mask[name]["kernel"].all(axis=(1, 3)), [[0, 0], [0, 1]])


@pytest.mark.parametrize(("some", "others"), [({0}, {1}), ({0}, {2}), ({0, 3}, {1, 3})])
def test_masks_of_heads_unite(some, others):
    params = random_params(CONFIGS["qwen2"])
    united = masks.union(masks.heads(params, {1: some}), masks.heads(params, {1: others}))
    both = masks.heads(params, {1: some | others})
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, united, both)))


def test_structural_masks_are_small():
    for mask in (masks.layers(PARAMS, [0]), masks.heads(PARAMS, {0: [0]}), masks.none(PARAMS)):
        assert sum(np.size(leaf) for leaf in jax.tree.leaves(mask)) < 100


def test_set_algebra():
    a = masks.by_magnitude(PARAMS, fraction=0.3)
    b = masks.layers(PARAMS, [0])
    n = {name: masks.count(m, PARAMS) for name, m in (("a", a), ("b", b))}
    both = masks.count(masks.intersection(a, b), PARAMS)
    either = masks.count(masks.union(a, b), PARAMS)
    assert either == n["a"] + n["b"] - both
    assert 0 < both < min(n.values())
    assert masks.count(masks.complement(a), PARAMS) == TOTAL - n["a"]
    left, right = (
        dense(masks.complement(masks.union(a, b))),
        dense(masks.intersection(masks.complement(a), masks.complement(b))),
    )
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: (x == y).all(), left, right)))
    assert masks.count(masks.none(PARAMS), PARAMS) == 0
    assert masks.count(masks.everything(PARAMS), PARAMS) == TOTAL


def test_counts_beyond_32_bits_need_no_weights():
    shapes = {"embed": {"tokens": jax.ShapeDtypeStruct((2**20, 2**14), jnp.float32)}}
    assert masks.count({"embed": {"tokens": np.ones((), bool)}}, shapes) == 2**34
    rows = np.arange(2**20)[:, None] % 2 == 0
    assert masks.count({"embed": {"tokens": rows}}, shapes) == 2**33


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: masks.layers(PARAMS, [2]), r"`chosen` has layers \[2\]; the model has 0 to 1"),
        (lambda: masks.layers(PARAMS, [-1]), r"`chosen` has layers \[-1\]"),
        (lambda: masks.layers(PARAMS, []), "`chosen` names no layer"),
        (lambda: masks.heads(PARAMS, {0: [4]}), "`chosen` has head 4; the model has 0 to 3"),
        (lambda: masks.heads(PARAMS, {7: [0]}), "`chosen` has layer 7"),
        (lambda: masks.heads(PARAMS, {}), "`chosen` names no head"),
        (lambda: masks.heads(PARAMS, {0: []}), "`chosen` names no head"),
        (lambda: masks.components(PARAMS, ["mlps"]), "`chosen` has component 'mlps'; allowed"),
        (lambda: masks.components(PARAMS, ["head"]), "'head'; this model has"),
        (lambda: masks.components(PARAMS, []), "`chosen` names no component"),
        (lambda: masks.by_magnitude(PARAMS, fraction=1.1), "`fraction` is 1.1; allowed is 0 to 1"),
        (lambda: masks.by_magnitude(PARAMS, fraction=-0.1), "`fraction` is -0.1"),
        (lambda: masks.by_magnitude(PARAMS, fraction=float("nan")), "`fraction` is nan"),
        (lambda: masks.by_magnitude(PARAMS, count=TOTAL + 1), "`count` is 7121"),
        (lambda: masks.by_magnitude(PARAMS, count=-1), "`count` is -1"),
        (lambda: masks.by_magnitude(PARAMS), "give one of `count` and `fraction`"),
        (lambda: masks.by_magnitude(PARAMS, count=1, fraction=0.1), "give one of"),
        (lambda: masks.by_magnitude(PARAMS, count=1, per="tensor"), "cannot be split per tensor"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
