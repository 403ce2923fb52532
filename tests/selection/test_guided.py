"""The language-guided choice, its correction, and the bound on the size of any choice."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.scratch import scratch_in
from jaxprotect.selection import criteria, masks
from jaxprotect.selection.criteria import Evidence
from jaxprotect.selection.gains import expected_gain, rounding
from jaxprotect.selection.guided import as_mask, corrected_gains, language_guided
from jaxprotect.selection.size_bound import size_lower_bound
from jaxprotect.selection.targets import Demands
from jaxprotect.selection.top_gains import minimax_choice, removed, top_by_multipliers
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, random_params, trees_equal

SPEC = QuantSpec(bits=3)
LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")
NATS = {"deu_Latn": 900.0, "eng_Latn": 1000.0, "heb_Hebr": 700.0}
COUNT = 150


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.fixture(scope="module")
def squares(params):
    """Heavy-tailed, each language with weights of its own; Hebrew needs most."""

    def of_language(seed, factor):
        generator = np.random.default_rng(seed)
        return map_leaves(
            lambda path, leaf: jnp.asarray(
                factor * generator.lognormal(0, 2, leaf.shape), jnp.float32
            ),
            params,
        )

    factors = (0.5, 0.4, 1.0)
    return {name: of_language(i, factors[i]) for i, name in enumerate(LANGUAGES)}


def tiny_gains(seed, languages=3, shapes=((4, 2), (5,))):
    generator = np.random.default_rng(seed)
    return {
        f"leaf{i}": generator.lognormal(0, 1.2, (languages, *shape)).astype(np.float32)
        for i, shape in enumerate(shapes)
    }


def test_exactly_count_weights_and_ties_by_position():
    gains = {"a": np.ones((2, 3, 2), np.float32), "b": np.ones((2, 4), np.float32)}
    chosen = top_by_multipliers(gains, np.array([0.5, 0.5]), 7)
    assert chosen["a"].all()
    assert chosen["b"].tolist() == [True, False, False, False]
    for count in (0, 1, 9, 10):
        total = sum(
            int(flags.sum()) for flags in top_by_multipliers(gains, np.ones(2), count).values()
        )
        assert total == count


def test_one_language_is_top_k_by_its_gain(params, squares):
    only = {"heb_Hebr": squares["heb_Hebr"]}
    choice = language_guided(params, only, {"heb_Hebr": 700.0}, SPEC, count=COUNT)
    gains = expected_gain(only["heb_Hebr"], rounding(params, masks.none(params), SPEC), SPEC)
    tree = map_leaves(lambda path, leaf: jnp.asarray(gains.get(path, 0 * leaf)), params)
    expected = masks.by_score(tree, count=COUNT)
    assert trees_equal(
        map_leaves(
            lambda p, leaf, m: jnp.broadcast_to(jnp.asarray(m), leaf.shape), params, choice.mask
        ),
        map_leaves(lambda p, leaf, m: jnp.broadcast_to(m, leaf.shape), params, expected),
    )


def test_the_worst_language_is_better_off_than_under_pooling(params, squares):
    choice = language_guided(params, squares, NATS, SPEC, count=COUNT, max_passes=40)
    assert masks.count(choice.mask, params) == COUNT
    gains, losses = corrected_gains(params, squares, NATS, SPEC, masks.none(params), None)
    pooled = top_by_multipliers(gains, np.array([NATS[name] for name in LANGUAGES]), COUNT)
    left = losses - removed(gains, pooled)
    assert max(choice.predicted.values()) < left.max()
    assert choice.bound <= max(choice.predicted.values()) + 1e-12
    assert choice.measured == {}
    assert choice.rounds == ()


def test_around_a_measured_set_the_surrogate_says_what_was_measured(params, squares):
    mask = masks.by_magnitude(params, count=COUNT)
    measured = {"deu_Latn": 0.05, "eng_Latn": 0.02, "heb_Hebr": 0.11}
    gains, losses = corrected_gains(params, squares, NATS, SPEC, mask, measured)
    np.testing.assert_allclose(
        losses - removed(gains, leaf_paths(mask)), list(measured.values()), rtol=1e-5
    )


def test_correction_scales_a_languages_gains_by_measured_over_predicted(params, squares):
    mask = masks.none(params)
    plain, losses = corrected_gains(params, squares, NATS, SPEC, mask, None)
    measured = dict(zip(LANGUAGES, losses * [2.0, 1.0, 0.5], strict=True))
    scaled, _ = corrected_gains(params, squares, NATS, SPEC, mask, measured)
    for path, leaf in plain.items():
        for row, factor in enumerate((2.0, 1.0, 0.5)):
            np.testing.assert_allclose(scaled[path][row], factor * leaf[row], rtol=1e-5)


def test_the_best_measured_round_is_returned(params, squares):
    script = iter([0.09, 0.05, 0.08])
    seen = []

    def measure(mask):
        worst = next(script)
        seen.append(mask)
        return {"deu_Latn": 0.5 * worst, "eng_Latn": 0.4 * worst, "heb_Hebr": worst}

    choice = language_guided(params, squares, NATS, SPEC, count=COUNT, measure=measure, rounds=3)
    assert choice.rounds == (0.09, 0.05, 0.08)
    assert max(choice.measured.values()) == 0.05
    assert choice.mask is seen[1]
    assert choice.passes >= 3


def test_what_does_not_fit_is_named(params, squares):
    with pytest.raises(InputError, match=r"`nats` and `squares` differ in the languages \['heb"):
        language_guided(params, squares, {"deu_Latn": 1.0, "eng_Latn": 1.0}, SPEC, count=5)
    with pytest.raises(InputError, match="`rounds` is 0"):
        language_guided(params, squares, NATS, SPEC, count=5, rounds=0)
    with pytest.raises(InputError, match="`k` is"):
        language_guided(params, squares, NATS, SPEC, count=10**9)
    with pytest.raises(InputError, match="`gains` at leaf0"):
        minimax_choice({"leaf0": -np.ones((2, 3), np.float32)}, np.ones(2), count=1)
    with pytest.raises(InputError, match="`gains` at leaf0"):
        minimax_choice({"leaf0": np.full((2, 3), np.inf, np.float32)}, np.ones(2), count=1)


def smallest(gains, needs):
    """Size of the smallest set that removes what every language needs, by trying all."""
    columns = np.concatenate([leaf.reshape(len(needs), -1) for leaf in gains.values()], axis=1)
    for size in range(columns.shape[1] + 1):
        for chosen in itertools.combinations(range(columns.shape[1]), size):
            if (columns[:, list(chosen)].sum(axis=1) >= needs).all():
                return size
    return float("inf")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_no_set_is_smaller_than_the_bound(share):
    for seed in range(6):
        gains = tiny_gains(seed)
        totals = sum(leaf.reshape(3, -1).sum(axis=1) for leaf in gains.values())
        needs = share * totals
        bound, proof = size_lower_bound(gains, needs, start=6)
        true = smallest(gains, needs)
        assert bound <= true + 1e-4
        assert true - bound <= 3
        assert proof.min() >= 0


def test_bounds_at_the_ends():
    gains = tiny_gains(0)
    totals = sum(leaf.reshape(3, -1).sum(axis=1) for leaf in gains.values())
    assert size_lower_bound(gains, -totals, start=3)[0] == 0
    assert size_lower_bound(gains, 1.5 * totals, start=3)[0] == float("inf")
    assert size_lower_bound(gains, totals * (1 - 1e-6), start=3)[0] == pytest.approx(13, abs=0.01)


def test_as_mask_protects_nothing_that_is_not_named(params):
    path = "embed/tokens"
    flags = np.zeros(leaf_paths(params)[path].shape, bool)
    flags[3] = True
    assert masks.count(as_mask({path: flags}, params), params) == flags.sum()


def worst(demands, damages):
    return float(demands.excess(damages).max())


def test_the_choice_follows_what_is_demanded(params, squares):
    """Where English may lose nothing and the others much, the weights go to English."""
    free = language_guided(params, squares, NATS, SPEC, count=COUNT)
    limits = np.array([0.9, 0.0, 0.9]) * max(free.predicted.values())
    demands = Demands(languages=LANGUAGES, weights=np.eye(3), limits=limits)
    choice = language_guided(params, squares, NATS, SPEC, count=COUNT, demands=demands)
    assert masks.count(choice.mask, params) == COUNT
    assert worst(demands, choice.predicted) < worst(demands, free.predicted)
    assert choice.predicted["eng_Latn"] < free.predicted["eng_Latn"]
    assert choice.bound <= worst(demands, choice.predicted) + 1e-12


def test_demands_are_matched_by_language_not_by_order(params, squares):
    limits = dict(zip(LANGUAGES, (0.01, 0.0, 0.02), strict=True))
    made = []
    for order in (LANGUAGES, LANGUAGES[::-1]):
        demands = Demands(
            languages=order, weights=np.eye(3), limits=np.array([limits[n] for n in order])
        )
        made.append(language_guided(params, squares, NATS, SPEC, count=COUNT, demands=demands))
    assert made[0].predicted == pytest.approx(made[1].predicted, rel=0.02)


def test_a_disparity_counts_the_reference_against_itself(params, squares):
    """Damage of the reference is worth something where only the ratio is demanded."""
    reference = np.array([[0.0, 1.0, 0.0]])
    demands = Demands(languages=LANGUAGES, weights=np.eye(3) - 1.2 * reference, limits=np.zeros(3))
    free = language_guided(params, squares, NATS, SPEC, count=COUNT)
    choice = language_guided(params, squares, NATS, SPEC, count=COUNT, demands=demands)
    assert choice.multipliers["eng_Latn"] < 0 < choice.multipliers["heb_Hebr"]
    assert worst(demands, choice.predicted) < worst(demands, free.predicted)


def test_pruning_keeps_weights_of_the_set_only(params, squares):
    whole = language_guided(params, squares, NATS, SPEC, count=COUNT)
    part = language_guided(
        params,
        squares,
        NATS,
        SPEC,
        count=COUNT // 2,
        within=whole.mask,
        unprotected=whole.predicted,
    )
    assert masks.count(part.mask, params) == COUNT // 2
    both = masks.intersection(part.mask, whole.mask)
    assert masks.count(both, params) == COUNT // 2
    everything = language_guided(params, squares, NATS, SPEC, count=COUNT, within=whole.mask)
    assert masks.count(masks.intersection(everything.mask, whole.mask), params) == COUNT
    with pytest.raises(InputError, match=f"`k` is {COUNT + 1}; the scores are {COUNT}"):
        language_guided(params, squares, NATS, SPEC, count=COUNT + 1, within=whole.mask)


def test_gains_in_files_and_languages_read_on_demand_change_nothing(
    params, squares, tmp_path, monkeypatch
):
    looked_up = []

    def read(language):
        looked_up.append(language)
        return squares[language]

    monkeypatch.setattr(criteria, "KEPT_BYTES", 0)
    evidence = Evidence(
        params=params,
        config=CONFIG,
        spec=SPEC,
        pooled=lambda: pytest.fail("not needed"),
        square=read,
        nats=NATS,
        unprotected={},
        measure=lambda mask, spec: {},
        reference=(),
    )
    here = language_guided(params, squares, NATS, SPEC, count=COUNT)
    allocate = scratch_in(tmp_path, large=0)
    there = language_guided(params, evidence.squares, NATS, SPEC, count=COUNT, allocate=allocate)
    assert trees_equal(here.mask, there.mask)
    assert here.bound == there.bound
    assert set(looked_up) == set(squares)
