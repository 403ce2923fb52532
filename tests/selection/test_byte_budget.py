"""Sets that fit a budget of bytes, and the bytes that a damage takes."""

import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.byte_budget import bytes_to_reach, fill_bytes
from jaxprotect.selection.scores import magnitude
from tests.tiny import random_params

SPEC = QuantSpec(bits=3, protected_dtype="float16")


@pytest.fixture(scope="module")
def params():
    return random_params()


def cost(params, mask):
    return protected_size(params, mask, SPEC).overhead


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.4])
@pytest.mark.parametrize("start", [0, 1, 50, 3000])
def test_one_more_weight_or_half_a_percent_would_not_fit(params, share, start):
    total = masks.eligible_count(params)
    scores = magnitude(params)

    def top(count):
        return masks.by_score(scores, count=count)

    budget = cost(params, masks.random(params, fraction=share))
    mask = fill_bytes(top, budget, params, SPEC, start=start, most=total, tries=30)
    found = masks.count(mask, params)
    assert cost(params, mask) <= budget
    assert cost(params, top(found + 1)) > budget or cost(params, mask) >= 0.995 * budget


def test_cheap_indices_buy_more_weights(params):
    """Whole columns need hardly an index, so that more of them fit."""
    columns = masks.heads(params, {0: [0], 1: [2]})
    budget = cost(params, columns)
    total = masks.eligible_count(params)

    def scattered(count):
        return masks.random(params, count=count)

    mask = fill_bytes(scattered, budget, params, SPEC, start=10, most=total)
    assert masks.count(mask, params) < masks.count(columns, params)


def test_a_criterion_with_few_weights_takes_what_it_has(params):
    few = masks.random(params, count=3)
    mask = fill_bytes(lambda count: few, 10_000, params, SPEC, start=100, most=500)
    assert masks.count(mask, params) == 3


def test_a_budget_of_nothing_holds_nothing(params):
    mask = fill_bytes(
        lambda count: masks.random(params, count=count), 0, params, SPEC, start=5, most=100
    )
    assert masks.count(mask, params) == 0


@pytest.mark.parametrize(
    ("budget", "start", "message"),
    [(-1, 0, "`budget` is -1 bytes"), (5, 11, "`start` is 11; allowed are 0 to 10")],
)
def test_budgets_that_are_none(params, budget, start, message):
    with pytest.raises(InputError, match=message):
        fill_bytes(masks.none, budget, params, SPEC, start=start, most=10)


def test_bytes_to_reach_by_hand():
    x, y = [0.0, 100.0, 400.0, 1600.0], [0.4, 0.2, 0.1, 0.05]
    assert bytes_to_reach(x, y, 0.5) == 0
    assert bytes_to_reach(x, y, 0.2) == 100
    assert bytes_to_reach(x, y, 0.3) == pytest.approx(50)
    assert bytes_to_reach(x, y, 0.15) == pytest.approx(200)
    assert bytes_to_reach(x, y, 0.01) is None


def test_a_curve_that_rises_again_is_judged_by_its_last_fall():
    x, y = [0.0, 100.0, 200.0, 400.0], [0.4, 0.1, 0.3, 0.1]
    assert bytes_to_reach(x, y, 0.1) == pytest.approx(400)
    assert bytes_to_reach(x, [0.4, 0.1, 0.1, 0.3], 0.2) is None


@pytest.mark.parametrize("overheads", [[], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0], [1.0]])
def test_curves_that_are_none(overheads):
    with pytest.raises(InputError, match="`overheads` are"):
        bytes_to_reach(overheads, [1.0, 1.0], 0.5)
