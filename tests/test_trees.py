import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect import trees
from jaxprotect.errors import InputError
from jaxprotect.trees import (
    above_cut,
    count_to_reach,
    find_cut,
    leaf_paths,
    map_leaves,
    order_key,
)

floats = st.floats(width=32, allow_nan=False)


def by_sorting(leaves: dict, k: int) -> dict:
    """The definition: a stable descending sort over all leaves in path order."""
    flat = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves.values()])
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(-(flat + 0.0), kind="stable")[:k]] = True
    out, start = {}, 0
    for path, leaf in leaves.items():
        out[path] = chosen[start : start + leaf.size].reshape(leaf.shape)
        start += leaf.size
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(floats, min_size=1, max_size=12), st.data())
def test_cut_takes_what_a_stable_sort_takes(values, data):
    split = data.draw(st.integers(0, len(values)))
    k = data.draw(st.integers(0, len(values)))
    parts = {"a": values[:split], "b": values[split:]}
    leaves = {path: jnp.asarray(v, jnp.float32) for path, v in parts.items() if v}
    # Subnormals are flushed by some devices and not by others: leave them out.
    leaves = {p: jnp.where(jnp.abs(v) < 1e-37, 0.0, v) for p, v in leaves.items()}
    got = above_cut(leaves, find_cut(leaves, k))
    want = by_sorting(leaves, k)
    for path in leaves:
        np.testing.assert_array_equal(got[path], want[path])


@pytest.mark.parametrize("k", [0, 1, 5, 777, 1999, 2000])
def test_exactly_k_on_coarse_scores_with_many_ties(k):
    scores = jnp.round(jax.random.normal(jax.random.key(0), (2, 700)) * 3)
    leaves = {"a": scores[0], "b": scores[1, :600], "c": scores[1, 600:].reshape(10, 10)}
    leaves["c"] = jnp.concatenate([leaves["c"], leaves["a"][:600].reshape(60, 10)])
    assert sum(leaf.size for leaf in leaves.values()) == 2000
    chosen = above_cut(leaves, find_cut(leaves, k))
    assert sum(int(mask.sum()) for mask in chosen.values()) == k
    want = by_sorting(leaves, k)
    assert all(np.array_equal(chosen[path], want[path]) for path in leaves)


def test_ties_all_takes_every_weight_at_the_cut():
    leaves = {"a": jnp.array([3.0, 1.0, 2.0]), "b": jnp.array([2.0, 2.0, 0.0])}
    chosen = above_cut(leaves, find_cut(leaves, 2, ties="all"))
    assert chosen["a"].tolist() == [True, False, True]
    assert chosen["b"].tolist() == [True, True, False]


def test_chunks_do_not_change_the_cut(monkeypatch):
    leaves = {"a": jax.random.normal(jax.random.key(1), (1000,))}
    whole = find_cut(leaves, 123)
    monkeypatch.setattr(trees, "CHUNK", 7)
    assert int(find_cut(leaves, 123).key) == int(whole.key)


def test_counts_beyond_32_bits():
    histogram = np.array([2**33, 2**32, 2**31 + 7, 5], np.int64)
    assert trees._from_the_top(histogram, 5) == (3, 0)
    assert trees._from_the_top(histogram, 6) == (2, 5)
    assert trees._from_the_top(histogram, 2**31 + 13) == (1, 2**31 + 12)
    assert trees._from_the_top(histogram, 2**33) == (0, 2**32 + 2**31 + 12)


def test_order_key_orders_extremes():
    values = jnp.array([-jnp.inf, -3e38, -1.0, -0.0, 0.0, 1e-30, 1.0, 3e38, jnp.inf])
    keys = np.asarray(order_key(values)).astype(np.int64)
    assert keys[3] == keys[4]
    assert (np.diff(np.delete(keys, 3)) > 0).all()


def test_bad_input():
    with pytest.raises(InputError, match="`scores` at a have NaN"):
        find_cut({"a": jnp.array([1.0, jnp.nan])}, 1)
    with pytest.raises(InputError, match="`k` is 3; the scores are 2"):
        find_cut({"a": jnp.array([1.0, 2.0])}, 3)


def test_paths_and_map():
    tree = {"b": {"c": 1, "d": 2}, "a": 3}
    assert leaf_paths(tree) == {"a": 3, "b/c": 1, "b/d": 2}
    assert map_leaves(lambda p, x, y: (p, x + y), tree, tree)["b"]["d"] == ("b/d", 4)


def reach_by_sorting(leaves: dict, need: float) -> float:
    """The definition: largest first, until the sum is there, with a share of the last."""
    flat = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves.values()])
    reached = 0.0
    for taken, score in enumerate(-np.sort(-flat)):
        if score <= 0:
            break
        if reached + score >= need:
            return taken + (need - reached) / score
        reached += score
    return np.inf


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_count_to_reach_is_that_of_sorting(seed, coarse):
    generator = np.random.default_rng(seed)
    draw = generator.lognormal(0, 2, (3, 700)) - 0.5
    draw = np.round(draw) if coarse else draw
    leaves = {f"leaf{i}": row.astype(np.float32) for i, row in enumerate(draw)}
    positive = sum(np.maximum(leaf, 0).sum(dtype=np.float64) for leaf in leaves.values())
    for share in (1e-9, 0.1, 0.5, 0.9, 1 - 1e-6):
        expected = reach_by_sorting(leaves, share * positive)
        assert count_to_reach(leaves, share * positive) == pytest.approx(expected, rel=1e-6)
    assert count_to_reach(leaves, 1.001 * positive) == np.inf
    assert count_to_reach(leaves, 0.0) == count_to_reach(leaves, -1.0) == 0


def test_count_to_reach_across_chunks_and_bins(monkeypatch):
    leaves = {"a": np.full(50, 1 + 2.0**-20, np.float32), "b": np.ones(70, np.float32)}
    whole = count_to_reach(leaves, 80.0)
    assert whole == pytest.approx(50 + 80 - 50 * (1 + 2.0**-20))
    monkeypatch.setattr(trees, "CHUNK", 7)
    assert count_to_reach(leaves, 80.0) == pytest.approx(whole)
    with pytest.raises(InputError, match="`scores` at a have NaN"):
        count_to_reach({"a": np.array([1.0, np.nan], np.float32)}, 1.0)
