from collections import Counter

import jax
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import component, contracted_axes, is_eligible
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.overlap import (
    FAMILIES,
    SCRIPTS,
    chance_overlap,
    group_contrast,
    location,
    outlier_share,
    overlap_matrix,
    script,
)
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, random_params

PARAMS = random_params()
SETS = {
    "largest": masks.by_magnitude(PARAMS, fraction=0.1),
    "random": masks.random(PARAMS, fraction=0.1),
    "smaller": masks.random(PARAMS, count=30, seed=1),
    "layer": masks.layers(PARAMS, [0]),  # norms too, and flags that are broadcast
    "embeddings": masks.components(PARAMS, ["token_embedding", "position_embedding"]),
}


def positions(mask, eligible="matrices", params=PARAMS):
    """The set as a set of numbers, one per eligible weight."""
    leaves = leaf_paths(jax.tree.map(lambda m, w: np.broadcast_to(m, w.shape), mask, params))
    flat = [flags.ravel() for path, flags in leaves.items() if is_eligible(path, eligible)]
    return set(np.flatnonzero(np.concatenate(flat)).tolist())


@pytest.mark.parametrize("eligible", ["matrices", "everything"])
def test_overlap_is_that_of_the_sets(eligible):
    languages, matrix = overlap_matrix(SETS, PARAMS, eligible)
    assert languages == list(SETS)
    sets = [positions(mask, eligible) for mask in SETS.values()]
    want = [[len(a & b) / min(len(a), len(b)) for b in sets] for a in sets]
    np.testing.assert_array_equal(matrix, want)
    assert (np.diag(matrix) == 1).all()


def test_subsets_share_everything_and_disjoint_sets_nothing():
    sets = {
        "one": masks.layers(PARAMS, [0]),
        "both": masks.layers(PARAMS, [0, 1]),
        "other": masks.components(PARAMS, ["token_embedding"]),
    }
    np.testing.assert_array_equal(
        overlap_matrix(sets, PARAMS)[1], [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    )


def test_random_sets_share_what_chance_says():
    sets = {str(seed): masks.random(PARAMS, fraction=0.2, seed=seed) for seed in range(6)}
    shared = overlap_matrix(sets, PARAMS)[1][np.triu_indices(6, 1)]
    # 1424 of 7120 weights: one overlap has a standard deviation of 0.0095, their mean of 0.0024.
    assert abs(shared.mean() - chance_overlap(0.2)) < 0.01


def test_location_counts_every_weight_once():
    for mask in SETS.values():
        rows = location(mask, PARAMS)
        assert sum(row["protected"] for row in rows) == masks.count(mask, PARAMS)
        assert sum(row["eligible"] for row in rows) == masks.eligible_count(PARAMS)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        lifts = [row["lift"] * row["eligible"] for row in rows]
        assert sum(lifts) == pytest.approx(masks.eligible_count(PARAMS))
    weights = location(SETS["layer"], PARAMS, "weights")
    assert sum(row["protected"] for row in weights) == masks.count(SETS["layer"], PARAMS, "weights")


def test_location_of_parts_is_where_they_are():
    rows = {(row["layer"], row["component"]): row for row in location(SETS["layer"], PARAMS)}
    assert list(rows) == [
        (None, "token_embedding"),
        (None, "position_embedding"),
        (0, "attention"),
        (0, "mlp"),
        (1, "attention"),
        (1, "mlp"),
    ]
    attention, total = 4 * 16 * 16, masks.eligible_count(PARAMS)
    assert rows[0, "attention"] == {
        "layer": 0,
        "component": "attention",
        "protected": attention,
        "eligible": attention,
        "share": 1 / 3,
        "lift": pytest.approx(total / (3 * attention)),
    }
    assert all(row["lift"] == 0 for (layer, _), row in rows.items() if layer != 0)
    one = masks.components(PARAMS, ["attention"])
    assert [r["protected"] for r in location(one, PARAMS)] == [0, 0, attention, 0, attention, 0]


def far_directly(params, spec, deviations):
    """Outliers, one block at a time."""

    def leaf(path, weights):
        weights = np.asarray(weights, np.float64)
        far = np.zeros(weights.shape, bool)
        axes = contracted_axes(path)
        stacked = path.startswith("blocks")
        if spec.granularity == "tensor" or not axes:
            blocks = [np.s_[layer] for layer in range(len(weights))] if stacked else [np.s_[...]]
        else:
            outputs = [
                range(n) if a not in axes else [slice(None)] for a, n in enumerate(weights.shape)
            ]
            blocks = [
                tuple(o[i] for o, i in zip(outputs, index, strict=True))
                for index in np.ndindex(*map(len, outputs))
            ]
        for block in blocks:
            flat = weights[block].reshape(-1)
            whole = spec.granularity != "group" or not axes
            size = flat.size if whole else spec.group_size
            chunks = [flat[start : start + size] for start in range(0, flat.size, size)]
            of_block = [np.abs(chunk - chunk.mean()) > deviations * chunk.std() for chunk in chunks]
            far[block] = np.concatenate(of_block).reshape(weights[block].shape)
        return far

    return map_leaves(leaf, params)


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(granularity="channel"),
        QuantSpec(granularity="tensor", eligible="everything"),
        QuantSpec(granularity="group", group_size=7),  # 16 inputs: the last group is shorter
    ],
    ids=lambda spec: spec.granularity,
)
def test_outliers_are_those_of_each_block(spec):
    far = far_directly(PARAMS, spec, 1.9)
    chosen = positions(SETS["largest"], spec.eligible)
    outliers = positions(far, spec.eligible)
    share, chance = outlier_share(SETS["largest"], PARAMS, spec, 1.9)
    total = masks.eligible_count(PARAMS, spec.eligible)
    assert share == len(chosen & outliers) / len(chosen)
    assert chance == len(outliers) / total
    assert share > 2 * chance > 0  # the largest weights are often outliers
    assert outlier_share(masks.everything(PARAMS), PARAMS, spec, 1.9)[0] == chance


def test_equal_weights_have_no_outliers_and_a_planted_one_is_found():
    flat = map_leaves(lambda path, leaf: leaf * 0 + 0.1, PARAMS)
    spec = QuantSpec(granularity="channel")
    assert outlier_share(SETS["random"], flat, spec) == (0, 0)
    flat["embed"]["tokens"] = flat["embed"]["tokens"].at[3, 5].set(9.0)
    mask = masks.by_magnitude(flat, count=1)
    assert outlier_share(mask, flat, spec) == (1, 1 / masks.eligible_count(flat))


def two_pairs(within, between):
    """Languages a, b and c, d."""
    matrix = np.full((4, 4), between)
    matrix[:2, :2] = matrix[2:, 2:] = within
    return matrix, dict(zip("abcd", "XXYY", strict=True))


def test_contrast_counts_the_relabellings_that_separate_as_much():
    matrix, groups = two_pairs(0.8, 0.2)
    np.fill_diagonal(matrix, np.nan)  # never read
    contrast = group_contrast(matrix, "abcd", groups, permutations=3000)
    assert contrast[:2] == (pytest.approx(0.8), pytest.approx(0.2))
    # Of the 3 ways to make two pairs of four, one separates as much as this one: itself.
    assert contrast.p == pytest.approx(1 / 3, abs=0.03)
    assert contrast.reason == ""
    assert contrast == group_contrast(matrix, "abcd", groups, permutations=3000)
    reverse, _ = two_pairs(0.2, 0.8)
    assert group_contrast(reverse, "abcd", groups, permutations=300).p == 1


def test_contrast_is_small_for_clear_groups_and_1_where_all_are_equal():
    languages = [f"{group}{i}" for group in "XYZ" for i in range(4)]
    groups = {language: language[0] for language in languages}
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, (12, 12))
    same = np.array([[a[0] == b[0] for b in languages] for a in languages])
    matrix = 0.3 + 0.3 * same + noise + noise.T
    assert group_contrast(matrix, languages, groups, permutations=999).p == 0.001
    equal = np.full((12, 12), 1 / 3)
    assert group_contrast(equal, languages, groups, permutations=99).p == 1
    # A language alone in its group makes pairs between groups, and none within.
    alone = groups | {language: language for language in languages if language[0] != "X"}
    got = group_contrast(matrix, languages, alone, permutations=999)
    within = np.ix_(range(4), range(4))
    assert got.within == pytest.approx(matrix[within][~np.eye(4, dtype=bool)].mean())


def test_contrast_is_undefined_without_pairs_of_both_kinds():
    matrix, _ = two_pairs(0.8, 0.2)
    nobody = group_contrast(matrix, "abcd", {name: name for name in "abcd"})
    assert (nobody.within, nobody.p) == (None, None)
    assert nobody.reason == "undefined: no group has two languages"
    everybody = group_contrast(matrix, "abcd", dict.fromkeys("abcd", "X"))
    assert (everybody.between, everybody.p) == (None, None)
    assert everybody.reason == "undefined: all languages are in one group"


def test_languages_have_scripts_and_families():
    assert [script(code) for code in ("eng_Latn", "zho_Hans", "english")] == [
        "Latn",
        "Hans",
        "english",
    ]
    assert len(FAMILIES) == 25
    assert {script(language) for language in FAMILIES} <= SCRIPTS.keys()
    pairs = {family for family, number in Counter(FAMILIES.values()).items() if number > 1}
    assert pairs == {"Germanic", "Romance", "Slavic", "Indo-Aryan", "Semitic", "Dravidian"}


NOTHING = masks.none(PARAMS)
SMALL = {"embed": {"tokens": np.ones((), bool)}}
NARROW = SETS["largest"] | {"embed": {"tokens": np.ones((36, 16), bool), "positions": np.True_}}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: overlap_matrix({}, PARAMS), "`masks` is empty"),
        (lambda: overlap_matrix({"a": NOTHING}, PARAMS), "`masks` of 'a' protects nothing"),
        (lambda: overlap_matrix({"a": SMALL}, PARAMS), r"`masks\['a'\]` and the params differ in"),
        (lambda: location(NARROW, PARAMS), r"embed/tokens has shape \(36, 16\); the params have"),
        (lambda: location(NOTHING, PARAMS), "`mask` protects nothing"),
        (lambda: outlier_share(NOTHING, PARAMS, QuantSpec()), "`mask` protects nothing"),
        (lambda: outlier_share(NOTHING, PARAMS, QuantSpec(), 0.0), "`deviations` is 0.0"),
        (lambda: chance_overlap(1.5), "`fraction` is 1.5"),
        (lambda: group_contrast(np.eye(2), "abc", {}), "`languages` has 3 names; `matrix` has 2"),
        (lambda: group_contrast(np.eye(2), "ab", {"a": "X"}), "`group_of` has no group for 'b'"),
        (
            lambda: group_contrast(np.full((2, 2), np.nan), "ab", dict.fromkeys("ab", "X")),
            "`matrix` has overlaps that are not finite",
        ),
        (
            lambda: group_contrast(np.eye(2), "ab", dict.fromkeys("ab", "X"), permutations=0),
            "`permutations` is 0",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_components_of_the_model_are_those_located():
    present = {component(path) for path in leaf_paths(PARAMS)} - {"norms"}
    assert {row["component"] for row in location(SETS["random"], PARAMS)} == present
    assert CONFIG.layers == 1 + max(row["layer"] or 0 for row in location(SETS["random"], PARAMS))
