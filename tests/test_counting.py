import numpy as np
import pytest

from jaxprotect import counting
from jaxprotect.counting import count_to_reach
from jaxprotect.errors import InputError


def test_counts_beyond_32_bits():
    histogram = np.array([2**33, 2**32, 2**31 + 7, 5], np.int64)
    assert counting._from_the_top(histogram, 5) == (3, 0)
    assert counting._from_the_top(histogram, 6) == (2, 5)
    assert counting._from_the_top(histogram, 2**31 + 13) == (1, 2**31 + 12)
    assert counting._from_the_top(histogram, 2**33) == (0, 2**32 + 2**31 + 12)


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
    monkeypatch.setattr(counting, "CHUNK", 7)
    assert count_to_reach(leaves, 80.0) == pytest.approx(whole)
    with pytest.raises(InputError, match="`scores` at a have NaN"):
        count_to_reach({"a": np.array([1.0, np.nan], np.float32)}, 1.0)
