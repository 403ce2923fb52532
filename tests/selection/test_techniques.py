"""Techniques within byte budgets, on a quadratic stand-in for measuring: nothing is evaluated."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.scheme import Scheme, apply_scheme
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import Evidence
from jaxprotect.selection.frontier import best_of_each, tried
from jaxprotect.selection.mixed_recipes import header_reserve
from jaxprotect.selection.recipes import (
    Ground,
    affordable,
    predicted_worst,
    protected,
    quantizers,
    uniform,
)
from jaxprotect.selection.recommendation import TECHNIQUE_NAMES, Options
from jaxprotect.selection.techniques import TECHNIQUES
from jaxprotect.trees import leaf_paths
from tests.tiny import CONFIG, random_params, random_square, trees_equal

PARAMS = random_params()
BASE = QuantSpec(protected_dtype="float16")
LANGUAGES = ("eng_Latn", "heb_Hebr", "tam_Taml")
UNMEASURABLE = {"error_compensation", "cached_prefix"}
"""Techniques that run the model; the experiment's test has them."""
FAST = ("round_to_nearest", "mixed_precision", "whole_heads")


SQUARES = {language: random_square(PARAMS, i) for i, language in enumerate(LANGUAGES)}


def damages(scheme: Scheme) -> dict[str, float]:
    """1/2 sum F e^2: what the surrogate predicts is all there is."""
    stored = leaf_paths(apply_scheme(PARAMS, scheme, CONFIG))
    errors = {path: np.asarray(stored[path] - leaf) for path, leaf in leaf_paths(PARAMS).items()}
    return {
        language: sum(
            0.5 * float(np.sum(leaf * np.square(errors[path])))
            for path, leaf in leaf_paths(square).items()
        )
        / 1e4
        for language, square in SQUARES.items()
    }


@functools.cache
def evidence(spec: QuantSpec) -> Evidence:
    return Evidence(
        params=PARAMS,
        config=CONFIG,
        spec=spec,
        pooled=lambda: pytest.fail("no technique pools languages"),
        square=SQUARES.__getitem__,
        nats=dict.fromkeys(LANGUAGES, 1e4),
        unprotected=damages(Scheme(spec=spec, mask=masks.none(PARAMS))),
        measure=lambda mask, under: damages(Scheme(spec=under, mask=mask)),
        reference=("eng_Latn",),
    )


def file_size(scheme: Scheme) -> int:
    """The arrays and a header of 100 bytes."""
    return 100 + protected_size(PARAMS, scheme.mask, scheme.spec, scheme.bits).total


GROUND = Ground(
    params=PARAMS,
    config=CONFIG,
    evidence=evidence,
    measure=damages,
    file_size=file_size,
    select=lambda prefix_tokens: pytest.fail("not for these techniques"),
    select_base=lambda: pytest.fail("not for these techniques"),
    rounds=1,
)


def budget_of(bits: int, more: int = 0) -> int:
    return file_size(GROUND.plain(replace(BASE, bits=bits))) + more


def test_the_options_name_the_techniques():
    assert tuple(TECHNIQUES) == TECHNIQUE_NAMES


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in TECHNIQUES
        if name not in UNMEASURABLE
    ],
)
@pytest.mark.parametrize(
    "budget",
    [
        budget_of(3),
        pytest.param(budget_of(4, 700), marks=pytest.mark.slow),
        pytest.param(budget_of(6, 5000), marks=pytest.mark.slow),
    ],
)
def test_no_scheme_is_larger_than_its_budget(name, budget):
    reserve = header_reserve(GROUND, BASE)
    if "mixed" in name and budget - reserve < budget_of(2):
        pytest.skip("the names of mixed arrays take more than these few weights leave")
    for scheme in TECHNIQUES[name](GROUND, budget, BASE):
        assert file_size(scheme) <= budget


@pytest.mark.parametrize("name", ["round_to_nearest", "guided_protection", "calibrated_ranges"])
def test_a_budget_below_the_smallest_file_names_it(name):
    smallest = min(file_size(GROUND.plain(spec)) for spec in quantizers(BASE))
    with pytest.raises(InputError, match=f"the smallest possible file, INT2.* has {smallest}"):
        TECHNIQUES[name](GROUND, smallest - 1, BASE)


@pytest.mark.slow
def test_uniform_is_the_best_of_all_that_fit():
    budget = budget_of(5, 300)
    chosen = uniform(GROUND, budget, BASE).spec
    fitting = GROUND.fitting(budget, BASE)
    assert chosen in fitting
    assert predicted_worst(GROUND, chosen) == min(predicted_worst(GROUND, s) for s in fitting)


def test_protection_fills_the_budget_and_helps_the_worst_language():
    spec = replace(BASE, bits=3)
    budget = budget_of(4)
    scheme = protected(GROUND, budget, spec)
    assert scheme is not None
    assert 0.95 * budget <= file_size(scheme) <= budget
    assert GROUND.worst(scheme) < GROUND.worst(GROUND.plain(spec))
    assert protected(GROUND, budget_of(3, 1), spec) is None


@pytest.mark.parametrize("room", [-5, 0, 1, 100, 10_000])
def test_affordable_grows_with_the_room_and_never_exceeds_the_model(room):
    total = 5000
    found = affordable(room, total, BASE)
    assert 0 <= found <= total
    assert found <= affordable(room + 50, total, BASE)
    assert found == 0 or found * 16 <= 8 * room or found == total


@pytest.mark.slow
def test_the_best_scheme_of_each_technique_is_taken():
    budget = budget_of(4, 700)
    chosen = {name: TECHNIQUES[name] for name in ("round_to_nearest", "calibrated_ranges")}
    seen = []

    def progress(names):
        for name in names:
            seen.append(name)
            yield name

    found = best_of_each(GROUND, budget, BASE, chosen, progress=progress)
    assert seen == list(chosen) == [one.technique for one in found]
    for one in found:
        made = [tried(GROUND, "", s) for s in chosen[one.technique](GROUND, budget, BASE)]
        assert one.worst == min(other.worst for other in made)
        assert one.bytes == file_size(one.scheme) <= budget


def test_a_scheme_larger_than_its_budget_never_gets_out():
    def too_large(ground, budget, base):
        return [ground.plain(replace(base, bits=8))]

    with pytest.raises(AssertionError, match="of a budget of"):
        best_of_each(GROUND, budget_of(4), BASE, {"too_large": too_large})


def test_a_scheme_applies_what_quantize_applies():
    mask = masks.by_magnitude(PARAMS, fraction=0.1)
    scheme = Scheme(spec=BASE, mask=mask)
    assert trees_equal(
        apply_scheme(PARAMS, scheme, CONFIG), quantize_tree(PARAMS, mask, BASE, CONFIG)
    )
    other = random_params(seed=1)
    moved = replace(scheme, weights=other)
    assert trees_equal(
        apply_scheme(PARAMS, moved, CONFIG), quantize_tree(other, mask, BASE, CONFIG)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"techniques": ("magic",)}, "`techniques` has 'magic'; allowed are round_to_nearest"),
        ({"techniques": ()}, "`techniques` is empty"),
        ({"rounds": 0}, "`rounds` is 0"),
    ],
)
def test_options_that_try_nothing_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Options(**options)
