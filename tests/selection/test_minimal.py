"""The search for the smallest size, on curves that are known."""

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.selection.minimal import search_minimal
from jaxprotect.selection.targets import Verdict

TOTAL = 1_000_000


def evaluation(count):
    """Stands for the evaluation of the set of that size: the size itself, as nats."""
    one = {"eng_Latn": np.array([float(count)])}
    whole = {"eng_Latn": np.array([1])}
    return Evaluation(
        nats=one, tokens=whole, bytes=whole, characters=whole, ids=(1,), vocab_size=10
    )


def search(met, pruned_met=None, **options):
    """Search with `met(count)`; the sizes visited come back too."""
    visited, pruned = [], []

    def visit(count):
        visited.append(count)
        return evaluation(count)

    def prune(found, count):
        pruned.append((found, count))
        return evaluation(-count)  # negative: the size of a pruned set

    def judge(of):
        count = int(of.nats["eng_Latn"][0])
        is_met = met(count) if count >= 0 else pruned_met(-count)
        upper = 0.0 - abs(count) if is_met else 1 / (abs(count) + 1)
        return Verdict(
            met=is_met, excess={"eng_Latn": upper}, upper={"eng_Latn": upper}, worst="eng_Latn"
        )

    if pruned_met is not None:
        options["prune"] = prune
    result = search_minimal(visit, judge, TOTAL, **options)
    assert len(visited) == len(set(visited))
    own = [point.count for point in result.points if point.pruned_from is None]
    assert sorted(visited) == own
    assert pruned == [(p.pruned_from, p.count) for p in result.points[len(own) :]]
    return result, visited


@pytest.mark.parametrize("threshold", [1, 7, 499, 500, 501, 4321, 99_999, 700_000])
@pytest.mark.parametrize("precision", [1.02, 1.5])
def test_steady_curves_end_at_their_threshold(threshold, precision):
    result, _ = search(lambda count: count >= threshold, precision=precision)
    found = result.found.count
    assert threshold <= found <= max(threshold * precision, threshold)
    assert result.isolated == ()
    assert not result.nothing_needed


def test_a_lucky_dip_is_not_trusted():
    result, _ = search(lambda count: count == 2000 or count >= 30_000, precision=1.05)
    assert 30_000 <= result.found.count <= 31_500
    assert result.isolated == (2000,)


def test_a_failure_above_takes_a_success_back():
    # Met at one coarse size and the next, but a size between them fails: what is above it counts.
    result, _ = search(lambda count: count >= 10_000 or count == 5000, precision=1.1)
    assert 10_000 <= result.found.count <= 11_000
    assert 5000 in result.isolated


def test_nothing_needed_asks_nothing_more():
    result, visited = search(lambda count: True)
    assert result.nothing_needed
    assert visited == [0]


def test_out_of_reach_names_the_closest():
    result, visited = search(lambda count: False, max_fraction=0.1)
    assert result.found is None
    assert result.closest.count == 100_000
    assert max(visited) == 100_000


def test_pruning_goes_on_while_the_target_holds():
    result, _ = search(lambda count: count >= 10_000, lambda count: count >= 6000, precision=1.1)
    assert 6000 <= result.found.count <= 6000 * 1.1
    assert result.found.pruned_from >= 10_000
    assert result.found.name == f"k{result.found.count}-of-{result.found.pruned_from}"
    assert not result.points[-1].verdict.met
    assert result.isolated == ()


def test_pruning_that_fails_at_once_changes_nothing():
    plain, _ = search(lambda count: count >= 10_000)
    result, _ = search(lambda count: count >= 10_000, lambda count: False)
    assert result.found == plain.found
    assert len(result.points) == len(plain.points) + 1


def test_pruning_may_end_at_one_weight():
    result, _ = search(lambda count: count >= 3, lambda count: True, precision=1.5)
    assert result.found.count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_fraction": 0.0}, "`max_fraction` is 0.0"),
        ({"max_fraction": 1.1}, "`max_fraction` is 1.1"),
        ({"precision": 1.0}, "`precision` is 1.0"),
        ({"grid": ()}, "`grid` is"),
        ({"grid": (0.0, 0.1)}, "`grid` is"),
        ({"max_fraction": 1e-9}, "is not one weight"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        search(lambda count: True, **options)
