"""Ranges from the weights alone, and weighted ones: optimal where they claim to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.aciq import clip_multiple, expected_error, steps_of
from jaxprotect.quantization.grid import leaf_grid
from jaxprotect.quantization.levels import Grid, code_limits
from jaxprotect.quantization.quantize import quantize_leaf, quantize_tree
from jaxprotect.quantization.ranges import absmax_grid, mse_grid, percentile_grid
from jaxprotect.quantization.spec import DATA_FREE_RANGES, RANGE_NAMES, QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection import masks
from jaxprotect.trees import leaf_paths
from tests.tiny import CONFIG, random_params, trees_equal

UP = "blocks/mlp/up/kernel"
CLIPPING = [ranges for ranges in DATA_FREE_RANGES if ranges != "absmax"]
GRANULARITIES = ("channel", "tensor", "group")


def spec_of(ranges: str, granularity: str = "channel", **options) -> QuantSpec:
    return QuantSpec(ranges=ranges, granularity=granularity, group_size=5, **options)


def heavy_tailed(seed: int = 0) -> dict:
    """Random params with a few weights ten times as large as the others."""
    params = random_params(seed=seed)
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda w: w * jnp.where(generator.random(w.shape) < 0.02, 10.0, 1.0), params
    )


def squared_error(weights: jax.Array, spec: QuantSpec, grid: Grid | None = None) -> float:
    rounded = quantize_leaf(weights, jnp.zeros((), bool), UP, spec, grid=grid)
    return float(jnp.sum((rounded - weights) ** 2))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_mse_ranges_err_least_and_never_more_than_absmax(granularity, symmetric):
    weights = leaf_paths(heavy_tailed())[UP]
    absmax, percentile, mse, aciq = (
        squared_error(weights, spec_of(ranges, granularity, bits=3, symmetric=symmetric))
        for ranges in DATA_FREE_RANGES
    )
    assert mse < absmax
    # Symmetric, the others choose from the same ranges, but for the steps of the search.
    assert mse <= (1.01 if symmetric else 1.2) * min(percentile, aciq)


def test_mse_ratio_is_the_best_of_a_dense_search():
    weights = np.random.default_rng(1).laplace(size=(3, 400)).astype(np.float32)
    spec = QuantSpec(bits=3)
    found = mse_grid(jnp.asarray(weights), jnp.ones((), bool), (1,), spec)
    for row, block in enumerate(weights):
        ratios = np.linspace(0.05, 1, 2000)[:, None]
        scale = ratios * np.abs(block).max() / 3
        errors = np.square(np.clip(np.round(block / scale), -4, 3) * scale - block).sum(axis=1)
        s = float(found.scale[row, 0])
        error = np.square(np.clip(np.round(block / s), -4, 3) * s - block).sum()
        assert error <= 1.002 * errors.min()


@pytest.mark.parametrize("ranges", CLIPPING)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_protected_weights_are_left_out_of_the_range(ranges, granularity):
    params = random_params()
    weights = leaf_paths(params)[UP]
    mask = np.random.default_rng(0).random(weights.shape) < 0.1
    louder = jnp.where(mask, 100.0 * weights, weights)
    spec = spec_of(ranges, granularity)
    for symmetric in (True, False):
        spec = spec_of(ranges, granularity, symmetric=symmetric)
        quiet, loud = (leaf_grid(w, jnp.asarray(mask), UP, spec) for w in (weights, louder))
        np.testing.assert_array_equal(quiet.scale, loud.scale)
        np.testing.assert_array_equal(quiet.zero, loud.zero)
    everybody = spec_of(ranges, granularity, scale_from="all")
    quiet, loud = (leaf_grid(w, jnp.asarray(mask), UP, everybody) for w in (weights, louder))
    assert (np.asarray(loud.scale) > np.asarray(quiet.scale)).any()


@pytest.mark.parametrize("ranges", CLIPPING)
def test_everything_protected_is_the_identity(ranges):
    weights = leaf_paths(random_params())[UP]
    spec = spec_of(ranges, "group", symmetric=False)
    kept = quantize_leaf(weights, jnp.ones((), bool), UP, spec)
    np.testing.assert_array_equal(kept, weights)


@pytest.mark.parametrize("ranges", DATA_FREE_RANGES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_padding_of_a_short_group_changes_nothing(ranges, symmetric):
    weights = leaf_paths(random_params())[UP]  # 16 inputs: groups of 10 and 6
    weights = weights.at[0, :, 0].set(jnp.abs(weights[0, :, 0]))  # 0 is in the range of these too
    spec = QuantSpec(ranges=ranges, granularity="group", group_size=10, symmetric=symmetric)
    alone = QuantSpec(ranges=ranges, granularity="group", group_size=6, symmetric=symmetric)
    grid = leaf_grid(weights, jnp.zeros((), bool), UP, spec)
    last = leaf_grid(weights[:, 10:], jnp.zeros((), bool), UP, alone)
    shorter = Grid(scale=grid.scale[:, 1:], zero=grid.zero[:, 1:])
    got = squared_error(weights[:, 10:], alone, shorter)
    assert got == pytest.approx(squared_error(weights[:, 10:], alone, last), rel=1e-5)
    assert (grid.zero >= 0).all()


@pytest.mark.parametrize("ranges", CLIPPING)
@pytest.mark.parametrize("symmetric", [True, False])
def test_each_channel_has_the_range_of_its_bits(ranges, symmetric):
    weights, nothing = leaf_paths(random_params())[UP], jnp.zeros((), bool)
    widths = np.random.default_rng(0).choice([2, 3, 8], (2, 1, 64))
    got = quantize_leaf(
        weights, nothing, UP, spec_of(ranges, symmetric=symmetric), bits={UP: widths}
    )
    wide = np.broadcast_to(widths, weights.shape)
    for width in (2, 3, 8):
        spec = spec_of(ranges, symmetric=symmetric, bits=width)
        of_width = quantize_leaf(weights, nothing, UP, spec)
        chosen = wide == width
        np.testing.assert_allclose(np.asarray(got)[chosen], np.asarray(of_width)[chosen], rtol=1e-6)


@pytest.mark.parametrize("ranges", CLIPPING)
def test_compiled_ranges_are_the_eager_ones(ranges):
    weights, spec = leaf_paths(random_params())[UP], spec_of(ranges, "group")
    protected = jnp.abs(weights) > 0.7
    eager = leaf_grid(weights, protected, UP, spec)
    compiled = jax.jit(leaf_grid, static_argnums=(2, 3))(weights, protected, UP, spec)
    np.testing.assert_allclose(compiled.scale, eager.scale, rtol=1e-5)


def test_a_percentile_is_numpys():
    weights = np.random.default_rng(0).normal(size=(4, 1000)).astype(np.float32)
    view, everybody = jnp.asarray(weights), jnp.ones((), bool)
    grid = percentile_grid(view, everybody, (1,), QuantSpec(), percentile=97.0)
    want = np.percentile(np.abs(weights), 97.0, axis=1, keepdims=True) / 7
    np.testing.assert_allclose(grid.scale, want, rtol=1e-5)
    both = percentile_grid(view, everybody, (1,), QuantSpec(symmetric=False), percentile=97.0)
    ends = np.percentile(weights, [3.0, 97.0], axis=1)
    np.testing.assert_allclose(both.scale[:, 0], (ends[1] - ends[0]) / 15, rtol=1e-5)
    whole = percentile_grid(view, everybody, (1,), QuantSpec(), percentile=100.0)
    absmax = absmax_grid(view, everybody, (1,), QuantSpec())
    np.testing.assert_array_equal(whole.scale, absmax.scale)


@pytest.mark.parametrize("percentile", [50.0, 100.1, -1.0])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(InputError, match="`percentile` is"):
        percentile_grid(
            jnp.ones((2, 3)), jnp.ones((), bool), (1,), QuantSpec(), percentile=percentile
        )


@pytest.mark.parametrize("distribution", ["laplace", "gauss"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 5, 8])
def test_analytic_clipping_is_nearly_the_best_on_samples(distribution, symmetric, bits):
    """Against the real quantizer's error at every range, on many draws."""
    generator = np.random.default_rng(bits)
    draw = {"laplace": generator.laplace, "gauss": generator.normal}[distribution]
    samples = draw(size=200_000)
    spec = QuantSpec(bits=bits, symmetric=symmetric)
    low, high = code_limits(spec)
    steps = steps_of(bits, symmetric)

    def error(alpha: float) -> float:
        scale = 2 * alpha / steps
        zero = 0 if symmetric else np.round(alpha / scale)
        codes = np.clip(np.round(samples / scale) + zero, low, high) - zero
        return float(np.mean((codes * scale - samples) ** 2))

    alpha = clip_multiple(distribution, steps)
    best = min(error(a) for a in np.linspace(0.5, 1.8, 27) * alpha)
    assert error(alpha) <= (1.05 if bits == 3 else 1.02) * best
    # The formula is what the samples say, the fewer weights are clipped the better.
    assert expected_error(distribution, alpha, steps) == pytest.approx(
        error(alpha), rel=0.25 if bits == 3 else 0.1
    )


def test_the_optimum_is_where_the_formula_is_flat():
    for distribution in ("laplace", "gauss"):
        for steps in (2, 6, 14, 254):
            alpha = clip_multiple(distribution, steps)
            at, below, above = (
                expected_error(distribution, alpha + shift, steps) for shift in (0, -0.01, 0.01)
            )
            assert at < below
            assert at < above


def test_blocks_take_the_distribution_that_fits():
    generator = np.random.default_rng(0)
    rows = np.stack([generator.laplace(size=4000), generator.normal(size=4000)])
    spec = QuantSpec(ranges="aciq")
    weights = jnp.asarray(rows.T[None], jnp.float32)
    scale = leaf_grid(weights, jnp.zeros((), bool), UP, spec).scale[0, 0]
    steps = steps_of(4, True)
    b, sigma = np.abs(rows[0]).mean(), np.sqrt(np.square(rows[1]).mean())
    assert scale[0] == pytest.approx(clip_multiple("laplace", steps) * b / 7, rel=1e-4)
    assert scale[1] == pytest.approx(clip_multiple("gauss", steps) * sigma / 7, rel=1e-4)


def of_leaf(weights: jax.Array) -> dict:
    """A tree of one leaf."""
    return {"blocks": {"mlp": {"up": {"kernel": weights}}}}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_importance_is_the_plain_error(granularity, value):
    """And importance of 0 throughout counts all weights alike."""
    weights, spec = leaf_paths(random_params())[UP], spec_of("mse", granularity, bits=3)
    protected = jnp.abs(weights) > 0.7
    importance = {UP: np.full((1, 1, 1), value)}
    grid = weighted_mse_grids(of_leaf(weights), of_leaf(protected), spec, importance)[UP]
    plain = leaf_grid(weights, protected, UP, spec)
    weighted, unweighted = (
        quantize_leaf(weights, protected, UP, spec, grid=g) for g in (grid, plain)
    )
    error, least = (float(jnp.sum((q - weights) ** 2)) for q in (weighted, unweighted))
    assert error == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_weighted_ranges_err_less_where_it_counts(granularity):
    weights, spec = leaf_paths(heavy_tailed())[UP], spec_of("absmax", granularity, bits=3)
    nothing = of_leaf(np.zeros((), bool))
    importance = np.random.default_rng(0).exponential(size=(2, 16, 1)) ** 4
    plain = weighted_mse_grids(of_leaf(weights), nothing, spec, {})[UP]
    weighted = weighted_mse_grids(of_leaf(weights), nothing, spec, {UP: importance})[UP]
    absmax = leaf_grid(weights, jnp.zeros((), bool), UP, spec)

    def error(grid: Grid) -> float:
        q = quantize_leaf(weights, jnp.zeros((), bool), UP, spec, grid=grid)
        return float(jnp.sum(importance * (q - weights) ** 2))

    assert error(weighted) < error(plain)
    assert error(weighted) < error(absmax)


def test_weighted_ranges_respect_bits():
    weights = leaf_paths(random_params())[UP]
    widths = np.random.default_rng(0).choice([2, 4, 8], (2, 1, 64))
    arguments = (of_leaf(weights), of_leaf(np.zeros((), bool)))
    importance = {UP: np.ones((1, 1, 1))}
    mixed = weighted_mse_grids(*arguments, QuantSpec(), importance, {UP: widths})[UP]
    for width in (2, 4, 8):
        alone = weighted_mse_grids(*arguments, QuantSpec(bits=width), importance)[UP]
        chosen = widths == width
        np.testing.assert_allclose(
            np.asarray(mixed.scale)[chosen], np.asarray(alone.scale)[chosen], rtol=1e-6
        )


def test_every_eligible_leaf_gets_a_grid_that_the_quantizer_takes():
    params = random_params()
    mask, spec = masks.by_magnitude(params, fraction=0.05), QuantSpec(bits=3)
    grids = weighted_mse_grids(params, mask, spec, {UP: np.ones((2, 16, 1))})
    given = quantize_tree(params, mask, spec, CONFIG, grids=grids)
    found = quantize_tree(params, mask, QuantSpec(bits=3, ranges="mse"), CONFIG)
    assert trees_equal(given, found)


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        ({"norm/scale": np.ones(16)}, "`importance` has 'norm/scale'"),
        ({UP: np.ones((2, 15, 1))}, r"at blocks/mlp/up/kernel has shape \(2, 15, 1\)"),
        ({UP: np.full((1, 1, 1), -1.0)}, "not all finite and at least 0"),
        ({UP: np.full((1, 1, 1), np.nan)}, "not all finite and at least 0"),
    ],
)
def test_importance_that_does_not_fit_is_refused(importance, message):
    params = random_params()
    with pytest.raises(InputError, match=message):
        weighted_mse_grids(params, masks.none(params), QuantSpec(), importance)


def test_labels_say_which_ranges():
    labels = {QuantSpec(ranges=ranges).label for ranges in RANGE_NAMES}
    assert len(labels) == len(RANGE_NAMES)
    assert QuantSpec(ranges="mse").label == "INT4 per channel, MSE ranges"
