"""Each criterion against its formula worked out by hand, and what the scores refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.selection import masks, scores
from jaxprotect.selection.scores import CRITERIA
from jaxprotect.selection.statistics import InputStatistics, Statistics, pool
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, SEPARATE, random_params, trees_equal


def tree(path: str, values) -> dict:
    """A tree of one leaf."""
    leaf = jnp.asarray(values, jnp.float32)
    for key in reversed(path.split("/")):
        leaf = {key: leaf}
    return leaf


def inputs(absolute, square, largest=None, output_largest=None, positions=4.0) -> InputStatistics:
    def array(values) -> jax.Array:
        return jnp.asarray(absolute if values is None else values, jnp.float32)

    return InputStatistics(
        absolute=array(absolute),
        square=array(square),
        largest=array(largest),
        output_largest=array(output_largest),
        positions=jnp.float32(positions),
    )


def measured(of: dict[str, InputStatistics]) -> Statistics:
    return Statistics(gradient={}, absolute={}, square={}, inputs=of)


def random_statistics(params: dict, seed: int = 0) -> Statistics:
    """Statistics that fit a model, drawn at random."""
    generator = np.random.default_rng(seed)

    def like(shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(generator.uniform(0.1, 1.0, shape), jnp.float32)

    def of(path: str, shape: tuple[int, ...]) -> InputStatistics:
        into = [n for a, n in enumerate(shape) if a in (layer_axis(path), *contracted_axes(path))]
        out = [n for a, n in enumerate(shape) if a not in contracted_axes(path)]
        return inputs(like(into), like(into), like(into), like(out))

    kernels = [path for path in leaf_paths(params) if path.endswith("/kernel")]
    matrices = kernels if "head" in params else [*kernels, "embed/tokens"]
    return Statistics(
        gradient=map_leaves(lambda path, leaf: like(leaf.shape), params),
        absolute=map_leaves(lambda path, leaf: like(leaf.shape), params),
        square=map_leaves(lambda path, leaf: like(leaf.shape), params),
        inputs={path: of(path, leaf_paths(params)[path].shape) for path in matrices},
        sentences=3,
        tokens=30,
    )


def delta_of(params: dict) -> dict:
    return jax.tree.map(lambda leaf: jnp.asarray(0.1 * np.sin(7 * np.asarray(leaf))), params)


MODELS = {"tied": random_params(CONFIG), "untied": random_params(SEPARATE)}


@functools.cache
def compiled(name: str, model: str) -> dict:
    """A model's scores under jit, on the level that compiles in half the time."""
    quick = {"xla_backend_optimization_level": 0}
    params = MODELS[model]
    run = jax.jit(CRITERIA[name], compiler_options=quick)
    return run(params, random_statistics(params), delta_of(params))


# Sums over two sentences whose gradients at two weights are (-1.25, -2) and (0.25, 3).
WEIGHTS, DELTA = tree("norm/scale", [2.0, -3.0]), tree("norm/scale", [0.5, 0.25])
TWO = Statistics(
    gradient=tree("norm/scale", [-1.0, 1.0]),
    absolute=tree("norm/scale", [1.5, 5.0]),
    square=tree("norm/scale", [1.625, 13.0]),
    inputs={},
    sentences=2,
    tokens=9,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("magnitude", [2.0, 3.0]),
        ("gradient", [1.0, 1.0]),
        ("gradient_weight", [2.0, 3.0]),
        ("fisher", [0.8125, 6.5]),
        ("fisher_delta", [0.203125, 0.40625]),
        ("tacq", [1.5, 3.75]),
        ("gradient_delta", [0.5, 0.25]),
        ("taylor", [-0.296875, 0.65625]),
    ],
)
def test_formulas_of_gradients(name, expected):
    found = CRITERIA[name](WEIGHTS, TWO, DELTA)
    np.testing.assert_array_equal(found["norm"]["scale"], expected)


DOWN = "blocks/mlp/down/kernel"
KERNEL = tree(DOWN, [[[1, -2], [3, 4], [-5, 6]]])  # 3 inputs, 2 outputs
OF_KERNEL = measured({DOWN: inputs([[4.0, 8.0, 2.0]], [[4.0, 25.0, 9.0]])})


def test_awq_is_the_mean_input_of_the_channel():
    found = scores.activation_aware(KERNEL, OF_KERNEL)
    np.testing.assert_array_equal(leaf_paths(found)[DOWN], [[[1, 1], [2, 2], [0.5, 0.5]]])


def test_wanda_is_the_weight_times_the_norm_of_its_input():
    found = scores.wanda(KERNEL, OF_KERNEL)
    np.testing.assert_allclose(leaf_paths(found)[DOWN], [[[2, 4], [15, 20], [15, 18]]], rtol=1e-6)


def test_owq_gives_a_column_its_hessian_times_its_error():
    delta = tree(DOWN, [[[1, -1], [0.5, 0], [0, 2]]])
    found = scores.owq_columns(KERNEL, OF_KERNEL, delta)
    np.testing.assert_array_equal(leaf_paths(found)[DOWN], [[[16, 16], [12.5, 12.5], [72, 72]]])


def test_the_inputs_of_the_attention_output_are_heads_by_head_size():
    path = "blocks/attention/out/kernel"
    weights = tree(path, np.ones((2, 2, 3, 1)))  # 2 layers, 2 heads of size 3, 1 output
    square = np.arange(12.0).reshape(2, 2, 3)
    found = leaf_paths(scores.wanda(weights, measured({path: inputs(square, square)})))[path]
    np.testing.assert_allclose(found[..., 0], np.sqrt(square), rtol=1e-6)


def test_owq_keeps_whole_columns_but_for_the_last():
    found = {"blocks": {"mlp": compiled("owq_columns", "tied")["blocks"]["mlp"]}}
    mask = leaf_paths(masks.by_score(found, count=1000))
    up, down = np.asarray(mask["blocks/mlp/up/kernel"]), np.asarray(mask[DOWN])
    assert up.sum() + down.sum() == 1000
    shares = np.concatenate([up.mean(axis=2).ravel(), down.mean(axis=2).ravel()])
    assert np.sum(shares == 1) > 10
    assert np.sum((0 < shares) & (shares < 1)) <= 1


def test_super_weights_are_where_the_spikes_meet():
    params = tree(DOWN, np.ones((2, 3, 2)))
    spikes = inputs(
        np.zeros((2, 3)), np.zeros((2, 3)), [[1, 2, 8], [5, 3, 4]], [[7, 1], [2, 100]], positions=1
    )
    found = leaf_paths(scores.super_weights(params, measured({DOWN: spikes})))[DOWN]
    expected = np.zeros((2, 3, 2))
    expected[0, 2, 0], expected[1, 0, 1] = 8 * 7, 5 * 100
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("model", MODELS)
def test_super_weights_are_one_per_layer_and_nowhere_else(model):
    found = compiled("super_weights", model)
    count = {path: np.count_nonzero(leaf) for path, leaf in leaf_paths(found).items()}
    assert {path: n for path, n in count.items() if n} == {DOWN: 2}


@pytest.mark.parametrize("name", ["activation_aware", "wanda", "owq_columns"])
@pytest.mark.parametrize("model", MODELS)
def test_leaves_without_a_product_score_nothing(name, model):
    found = leaf_paths(compiled(name, model))
    products = {path for path in found if path.endswith("/kernel")}
    products |= {"embed/tokens"} if model == "tied" else set()
    for path, leaf in found.items():
        assert np.any(leaf) == (path in products), path


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("model", MODELS)
def test_every_criterion_scores_every_leaf_and_can_be_compiled(name, model):
    params, found = MODELS[model], compiled(name, model)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for path, leaf in leaf_paths(found).items():
        assert leaf.shape == leaf_paths(params)[path].shape, path
        assert leaf.dtype == np.float32, path
        assert np.isfinite(leaf).all(), path


def test_scores_that_two_languages_add_up_to_are_those_of_their_pool():
    other = jax.tree.map(lambda leaf: 3 * leaf, TWO)
    of = {"a": scores.fisher_delta(TWO, DELTA), "b": scores.fisher_delta(other, DELTA)}
    together = scores.disparity_weighted(of, {"a": 1.0, "b": 1.0})
    assert trees_equal(together, scores.fisher_delta(pool([TWO, other]), DELTA))


def test_weights_of_languages():
    of = {"a": tree("w", [1.0, 2.0]), "b": tree("w", [10.0, 0.0])}
    found = scores.disparity_weighted(of, {"b": 0.5, "a": 3})
    np.testing.assert_array_equal(found["w"], [8.0, 6.0])
    alone = scores.disparity_weighted(of, {"a": 1.0, "b": 0.0})
    assert trees_equal(alone, of["a"])


def test_contrastive_compares_shares_of_the_whole_tree():
    language = {"u": jnp.array([1.0, 3.0]), "v": jnp.array([4.0])}
    references = [
        {"u": jnp.array([50.0, 50.0]), "v": jnp.array([0.0])},
        {"u": jnp.array([0.0, 1.0]), "v": jnp.array([1.0])},
    ]
    found = scores.contrastive(language, references)
    np.testing.assert_allclose(found["u"], [1 / 8 - 1 / 4, 3 / 8 - 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(found["v"], [4 / 8 - 1 / 4], rtol=1e-6)
    under_jit = jax.jit(scores.contrastive)(language, references)
    np.testing.assert_allclose(under_jit["u"], found["u"], rtol=1e-6)


def test_contrastive_of_nothing_is_refused_even_when_compiled():
    zero, one = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    for pair in ((zero, [one]), (one, [one, zero])):
        found = jax.jit(scores.contrastive)(*pair)
        with pytest.raises(InputError, match="`scores` at head/kernel have NaN"):
            masks.by_score({"head": {"kernel": found["w"]}}, count=1, eligible="matrices")


PARAMS = MODELS["tied"]
STATISTICS, MODEL_DELTA = random_statistics(PARAMS), delta_of(PARAMS)
OTHER = delta_of(MODELS["untied"])
LAST = {**MODEL_DELTA, "norm": {**MODEL_DELTA["norm"], "bias": jnp.zeros(3)}}


@pytest.mark.parametrize(
    "name", ["fisher_delta", "tacq", "gradient_delta", "taylor", "owq_columns"]
)
def test_a_delta_of_another_model_is_refused(name):
    odd = r"`delta` and `\w+` differ in the leaves \['blocks/attention/k/bias', .*'head/kernel'\]"
    with pytest.raises(InputError, match=odd):
        CRITERIA[name](PARAMS, STATISTICS, OTHER)
    with pytest.raises(InputError, match=r"`delta` at norm/bias has shape \(3,\); `\w+` has \(16,"):
        CRITERIA[name](PARAMS, STATISTICS, LAST)


@pytest.mark.parametrize("name", ["gradient_weight", "tacq"])
def test_statistics_of_another_model_are_refused(name):
    with pytest.raises(InputError, match="`statistics` and `params` differ in the leaves"):
        CRITERIA[name](MODELS["untied"], STATISTICS, OTHER)


@pytest.mark.parametrize("name", ["activation_aware", "wanda", "owq_columns", "super_weights"])
def test_a_matrix_without_measured_inputs_is_refused(name):
    def call(of: dict[str, InputStatistics]) -> dict:
        return CRITERIA[name](PARAMS, STATISTICS.replace(inputs=of), MODEL_DELTA)

    some = {path: of for path, of in STATISTICS.inputs.items() if path != DOWN}
    with pytest.raises(InputError, match=f"differ in the matrices ..{DOWN}..$"):
        call(some)
    with pytest.raises(InputError, match=r"differ in the matrices ..head/kernel..$"):
        call({**STATISTICS.inputs, "head/kernel": STATISTICS.inputs["embed/tokens"]})
    with pytest.raises(InputError, match="'blocks/mlp/up/kernel', 'embed/tokens'"):
        call({})


def test_inputs_of_another_shape_are_refused():
    swapped = inputs([[1.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(
        InputError, match=rf"`statistics.inputs` at {DOWN} have \(1, 2\), not \(1, "
    ):
        scores.wanda(KERNEL, measured({DOWN: swapped}))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scores.fisher(TWO.replace(sentences=0)), "`statistics.sentences` is 0"),
        (lambda: scores.contrastive(DELTA, []), "`of_references` is empty"),
        (
            lambda: scores.contrastive(DELTA, [tree("w", [1])]),
            "`of_references` and `of_language` differ",
        ),
        (lambda: scores.contrastive(tree("w", [0, 0]), [DELTA]), "`of_language` sum to 0.0"),
        (lambda: scores.contrastive(DELTA, [WEIGHTS]), "`of_references` sum to -1.0"),
        (lambda: scores.contrastive(tree("w", [1, np.inf]), [DELTA]), "`of_language` sum to inf"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": 1.0}, r"`weights` and `scores` differ in the languages \['b'\]"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, r"differ in the languages \['c'\]"),
        ({"a": 1.0, "b": -0.5}, r"`weights` are \[1.0, -0.5\]; they must be at least 0"),
        ({"a": 0.0, "b": 0.0}, "not all 0"),
        ({"a": 1.0, "b": float("nan")}, "`weights` are"),
        ({"a": 1.0, "b": float("inf")}, "`weights` are"),
    ],
)
def test_bad_weights(weights, words):
    with pytest.raises(InputError, match=words):
        scores.disparity_weighted({"a": WEIGHTS, "b": WEIGHTS}, weights)


def test_languages_of_different_models_are_refused():
    with pytest.raises(InputError, match="`b` and `scores` differ in the leaves"):
        scores.disparity_weighted({"a": WEIGHTS, "b": tree("w", [1])}, {"a": 1.0, "b": 1.0})


def test_no_language_is_refused():
    with pytest.raises(InputError, match="`weights` and `scores`"):
        scores.disparity_weighted({}, {})
    with pytest.raises(InputError, match="`statistics` is empty"):
        pool([])
