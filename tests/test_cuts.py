import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect import counting, cuts
from jaxprotect.counting import kth_by_counting
from jaxprotect.cuts import above_cut, find_cut
from jaxprotect.errors import InputError

floats = st.floats(width=32, allow_nan=False)

masks_of = jax.jit(above_cut)


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
@given(st.sampled_from([1, 5, 12]), st.data())  # every other size would be compiled, too
def test_cut_takes_what_a_stable_sort_takes(size, data):
    values = data.draw(st.lists(floats, min_size=size, max_size=size))
    split = data.draw(st.sampled_from([0, size // 2]))
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
    monkeypatch.setattr(counting, "CHUNK", 7)
    assert int(find_cut(leaves, 123).key) == int(whole.key)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("sample", [1, 16, 400])
def test_the_sample_does_not_change_the_cut(monkeypatch, sample, coarse):
    draw = np.random.default_rng(3).standard_normal((3, 4000)).astype(np.float32)
    draw[1, ::5] = -np.inf
    draw = np.round(draw) if coarse else draw
    leaves = {f"leaf{i}": jnp.asarray(row) for i, row in enumerate(draw)}
    monkeypatch.setattr(cuts, "SAMPLE", sample)
    for k in (1, 2, 40, 5999, 6001, 10_000, 11_900, 12_000):
        found, exact = find_cut(leaves, k), kth_by_counting(leaves, k)
        chosen, want = masks_of(leaves, found), by_sorting(leaves, k)
        assert int(found.key) == exact[0]
        assert all(np.array_equal(chosen[path], want[path]) for path in leaves)


def test_most_scores_are_only_counted(monkeypatch):
    """The bracket of a large tree holds few scores, and is met by its own sample."""
    draw = np.random.default_rng(0).standard_normal((2, 100_000)).astype(np.float32)
    leaves = {"a": draw[0], "b": draw[1]}
    monkeypatch.setattr(cuts, "SAMPLE", 20_000)
    monkeypatch.setattr(cuts, "INSIDE", 25_000)
    for k in (3, 2000, 100_000, 190_000, 199_999):
        assert cuts._kth_in_bracket(leaves, k, 200_000) == kth_by_counting(leaves, k)


def test_a_bracket_full_of_ties_is_counted(monkeypatch):
    leaves = {"a": jnp.zeros(5000), "b": jnp.arange(5.0)}
    monkeypatch.setattr(cuts, "INSIDE", 100)
    assert cuts._kth_in_bracket(leaves, 50, 5005) is None
    assert sum(int(m.sum()) for m in above_cut(leaves, find_cut(leaves, 50)).values()) == 50


@pytest.mark.parametrize("k", [1, 2])
def test_nan_is_refused_on_either_side_of_the_bracket(k):
    with pytest.raises(InputError, match="`scores` at b have NaN"):
        find_cut({"a": jnp.array([1.0]), "b": jnp.array([jnp.nan])}, k)


def test_bad_input():
    with pytest.raises(InputError, match="`scores` at a have NaN"):
        find_cut({"a": jnp.array([1.0, jnp.nan])}, 1)
    with pytest.raises(InputError, match="`k` is 3; the scores are 2"):
        find_cut({"a": jnp.array([1.0, 2.0])}, 3)
