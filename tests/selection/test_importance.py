"""What an error counts: shapes that broadcast, sums over languages, relative to their nats."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_matrix
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.selection import masks
from jaxprotect.selection.gains import predicted_damage, rounding
from jaxprotect.selection.importance import importance_of, language_importance
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.trees import leaf_paths
from tests.selection.test_sensitivity import ENCODED, model_of

NATS = {"eng_Latn": 10.0, "heb_Hebr": 40.0}


@pytest.fixture(scope="module", params=["gpt2", "neox"])
def measured(request):
    params, config = model_of(request.param)
    statistics = {
        name: language_statistics(params, ENCODED, config, language=name) for name in NATS
    }
    return params, config, statistics


def test_importance_broadcasts_to_every_matrix(measured):
    params, config, statistics = measured
    shapes = {path: leaf.shape for path, leaf in leaf_paths(params).items()}
    inputs = importance_of(statistics["eng_Latn"], "inputs")
    for path, values in inputs.items():
        assert np.broadcast_shapes(values.shape, shapes[path]) == shapes[path]
        np.testing.assert_array_equal(
            np.sort(values.reshape(-1)),
            np.sort(statistics["eng_Latn"].inputs[path].square.reshape(-1)),
        )
    assert ("embed/tokens" in inputs) == config.tied_head
    fisher = importance_of(statistics["eng_Latn"], "fisher")
    assert {path: leaf.shape for path, leaf in fisher.items()} == {
        path: shape for path, shape in shapes.items() if is_matrix(path)
    }


@pytest.mark.parametrize("kind", ["inputs", "fisher"])
def test_languages_are_summed_relative_to_their_nats(measured, kind):
    _, _, statistics = measured
    both = language_importance(
        statistics.__getitem__, {"eng_Latn": 2.0, "heb_Hebr": 1.0}, NATS, kind
    )
    parts = [importance_of(statistics[name], kind) for name in NATS]
    for path, values in both.items():
        np.testing.assert_allclose(values, parts[0][path] / 5 + parts[1][path] / 40, rtol=1e-5)
    alone = language_importance(
        {"eng_Latn": statistics["eng_Latn"]}.__getitem__,  # the other is not even read
        {"eng_Latn": 10.0, "heb_Hebr": 0.0},
        NATS,
        kind,
    )
    for path, values in alone.items():
        np.testing.assert_allclose(values, parts[0][path], rtol=1e-6)


@pytest.mark.slow
def test_fisher_ranges_lower_the_damage_that_gains_predict(measured):
    params, config, statistics = measured
    square = statistics["heb_Hebr"].square
    nothing = masks.none(params)

    def predicted(grids: dict) -> float:
        quantized = leaf_paths(
            quantize_tree(params, nothing, QuantSpec(bits=3), config, grids=grids)
        )
        lost = {p: (quantized[p] - w) ** 2 for p, w in leaf_paths(params).items()}
        return sum(0.5 * float(jnp.sum(f * lost[p])) for p, f in leaf_paths(square).items())

    importance = importance_of(statistics["heb_Hebr"], "fisher")
    fitted = weighted_mse_grids(params, nothing, QuantSpec(bits=3), importance)
    absmax = predicted_damage(square, rounding(params, nothing, QuantSpec(bits=3)), nothing)
    assert predicted({}) == pytest.approx(absmax, rel=1e-3)
    assert predicted(fitted) < predicted(weighted_mse_grids(params, nothing, QuantSpec(bits=3), {}))
    assert predicted(fitted) < absmax


@pytest.mark.parametrize(
    ("multipliers", "nats", "message"),
    [
        ({"eng_Latn": -1.0}, NATS, "`multipliers` has -1.0 for eng_Latn"),
        ({"eng_Latn": float("nan")}, NATS, "`multipliers` has nan for eng_Latn"),
        ({"eng_Latn": 0.0}, NATS, "`multipliers` are all 0"),
        ({"eng_Latn": 1.0}, {}, "`nats` has None for eng_Latn"),
        ({"eng_Latn": 1.0}, {"eng_Latn": 0.0}, "`nats` has 0.0 for eng_Latn"),
    ],
)
def test_weights_of_languages_that_cannot_be_are_refused(multipliers, nats, message):
    with pytest.raises(InputError, match=message):
        language_importance({}.__getitem__, multipliers, nats, "fisher")


def test_an_unknown_kind_is_refused(measured):
    with pytest.raises(InputError, match="`kind` is 'outputs'; allowed are inputs, fisher"):
        importance_of(measured[2]["eng_Latn"], "outputs")
