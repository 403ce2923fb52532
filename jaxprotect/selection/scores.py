"""The criteria: how much each weight matters, as formulas over weights, errors and statistics.

Each returns a tree shaped like the params, higher = protect first; `masks.by_score` makes a mask of
it. delta = Q(w) - w is what plain quantization does to a weight, g_i the gradient of sentence i's
nats. All are jit-able, and refuse trees that do not fit each other with an `InputError`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from jaxprotect.errors import InputError
from jaxprotect.models.axes import contracted_axes, layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.selection.statistics import InputStatistics, Statistics
from jaxprotect.trees import leaf_paths, map_leaves

DOWN = "blocks/mlp/down/kernel"
"""Where super weights sit."""


def magnitude(params: Params) -> dict:
    """|w|. Source: Han et al., Learning both weights and connections, 2015."""
    return jax.tree.map(jnp.abs, params)


def gradient(statistics: Statistics) -> dict:
    """|sum_i g_i|, the slope of the summed loss: a baseline without a paper."""
    return jax.tree.map(jnp.abs, statistics.gradient)


def gradient_weight(params: Params, statistics: Statistics) -> dict:
    """|sum_i g_i w|: to first order, what setting w to 0 changes. Source: SNIP, Lee et al. 2019."""
    return _each(lambda w, g: jnp.abs(w * g), params=params, statistics=statistics.gradient)


def fisher(statistics: Statistics) -> dict:
    """sum_i g_i^2 / n, the diagonal of the empirical Fisher matrix over n sentences.

    Source: SqueezeLLM, Kim et al. 2024, which keeps the largest (and the largest |w|).
    """
    if statistics.sentences < 1:
        raise InputError(f"`statistics.sentences` is {statistics.sentences}; it must be at least 1")
    return jax.tree.map(lambda square: square / statistics.sentences, statistics.square)


def fisher_delta(statistics: Statistics, delta: dict) -> dict:
    """1/2 sum_i g_i^2 delta^2, in nats: what rounding costs to second order where the slope is 0.

    Source: SqueezeLLM, Kim et al. 2024, whose levels minimise its sum.
    """
    return _each(lambda square, d: 0.5 * square * d * d, statistics=statistics.square, delta=delta)


def tacq(params: Params, statistics: Statistics, delta: dict) -> dict:
    """sum_i |g_i| |delta| |w|. Source: TaCQ, Xiao et al. 2025."""
    return _each(
        lambda w, g, d: g * jnp.abs(d) * jnp.abs(w),
        params=params,
        statistics=statistics.absolute,
        delta=delta,
    )


def gradient_delta(statistics: Statistics, delta: dict) -> dict:
    """|sum_i g_i delta|. Source: AutoRound's AutoScheme, 2025, which sums it over a layer."""
    return _each(lambda g, d: jnp.abs(g * d), statistics=statistics.gradient, delta=delta)


def taylor(statistics: Statistics, delta: dict) -> dict:
    """sum_i g_i delta + 1/2 sum_i g_i^2 delta^2: the signed second-order damage of one weight.

    What protecting it is predicted to remove, in nats. Source: Optimal Brain Damage, LeCun et al.
    1990, with its linear term kept and the empirical Fisher matrix as the Hessian.
    """

    def leaf(g: Array, square: Array, d: Array) -> Array:
        return g * d + 0.5 * square * d * d

    return _each(leaf, gradient=statistics.gradient, square=statistics.square, delta=delta)


def activation_aware(params: Params, statistics: Statistics) -> dict:
    """Mean |x_j| of the weight's input channel j. Source: AWQ, Lin et al. 2024 (its salience).

    0 in leaves without a matrix product: position embeddings, a table that is only looked up
    (although the input of a lookup is a 1), norms and biases. A tied table scores as the head.
    """

    def leaf(path: str, w: Array, of: InputStatistics) -> Array:
        return jnp.broadcast_to(_along_inputs(of.absolute / of.positions, path, w), w.shape)

    return _from_inputs(leaf, params, statistics)


def wanda(params: Params, statistics: Statistics) -> dict:
    """|w| ||x_j||_2. Source: Wanda, Sun et al. 2024. 0 where `activation_aware` is."""

    def leaf(path: str, w: Array, of: InputStatistics) -> Array:
        return jnp.abs(w) * _along_inputs(jnp.sqrt(of.square), path, w)

    return _from_inputs(leaf, params, statistics)


def owq_columns(params: Params, statistics: Statistics, delta: dict) -> dict:
    """H_jj ||delta_:j||^2 with H_jj = 2 sum x_j^2, the same for a whole input column.

    Source: OWQ, Lee et al. 2024. 0 where `activation_aware` is.
    """
    _check_fit({"params": params, "delta": delta})
    changes = leaf_paths(delta)

    def leaf(path: str, w: Array, of: InputStatistics) -> Array:
        lead = {layer_axis(path)} - {None}
        outputs = tuple(a for a in range(w.ndim) if a not in {*contracted_axes(path), *lead})
        error = jnp.sum(jnp.square(changes[path]), axis=outputs, keepdims=True)
        return jnp.broadcast_to(2 * _along_inputs(of.square, path, w) * error, w.shape)

    return _from_inputs(leaf, params, statistics)


def super_weights(params: Params, statistics: Statistics) -> dict:
    """One scalar per layer of the MLP's output matrix, where its spikes come in and go out.

    At (input channel of the largest |x|, output channel of the largest |y|, before the bias) the
    score is the product of the two; 0 elsewhere, which is no ranking: more weights than layers
    are taken by position. Source: The Super Weight, Yu et al. 2024.
    """

    def leaf(path: str, w: Array, of: InputStatistics) -> Array:
        nothing = jnp.zeros(w.shape, jnp.float32)
        if path != DOWN:
            return nothing
        layers = jnp.arange(w.shape[0])
        inputs = jnp.argmax(of.largest, axis=-1)
        outputs = jnp.argmax(of.output_largest, axis=-1)
        spikes = of.largest.max(axis=-1) * of.output_largest.max(axis=-1)
        return nothing.at[layers, inputs, outputs].set(spikes)

    return _from_inputs(leaf, params, statistics)


def contrastive(of_language: dict, of_references: Sequence[dict]) -> dict:
    """What one language needs that the references do not: s_l / sum s_l - mean_r s_r / sum s_r.

    Args:
        of_language: its scores.
        of_references: scores of the reference languages.

    Returns:
        Differences of shares of the whole tree.

    Raises:
        InputError: no references, or scores that do not sum to a number above 0 (under jit, which
            has no numbers to look at, these become NaN, and `by_score` refuses them).
    """
    if not of_references:
        raise InputError("`of_references` is empty; at least one language is needed")
    total = _total(of_language, "of_language")
    shares = jax.tree.map(lambda leaf: leaf / total, of_language)
    for scores in of_references:
        weight = 1 / (_total(scores, "of_references") * len(of_references))
        shares = _each(
            lambda a, b, weight=weight: a - weight * b, of_language=shares, of_references=scores
        )
    return shares


def disparity_weighted(scores: Mapping[str, dict], weights: Mapping[str, float]) -> dict:
    """sum_l w_l s_l; equal weights give the pooled form.

    Args:
        scores: language -> its scores.
        weights: language -> a number of at least 0, such as its unprotected relative damage.

    Returns:
        The weighted sum.

    Raises:
        InputError: other languages, or weights that are negative, all 0 or not finite.
    """
    if not scores or set(scores) != set(weights):
        odd = sorted(set(scores) ^ set(weights))
        raise InputError(f"`weights` and `scores` differ in the languages {odd}")
    values = list(weights.values())
    if not all(math.isfinite(v) and v >= 0 for v in values) or not sum(values) > 0:
        raise InputError(f"`weights` are {values}; they must be at least 0 and not all 0")
    total = None
    for language, tree in scores.items():
        part = jax.tree.map(lambda leaf, w=weights[language]: w * leaf, tree)
        total = part if total is None else _each(jnp.add, scores=total, **{language: part})
    assert total is not None
    return total


CRITERIA: dict[str, Callable[[Params, Statistics, dict], dict]] = {
    "magnitude": lambda params, statistics, delta: magnitude(params),
    "gradient": lambda params, statistics, delta: gradient(statistics),
    "gradient_weight": lambda params, statistics, delta: gradient_weight(params, statistics),
    "fisher": lambda params, statistics, delta: fisher(statistics),
    "fisher_delta": lambda params, statistics, delta: fisher_delta(statistics, delta),
    "tacq": tacq,
    "gradient_delta": lambda params, statistics, delta: gradient_delta(statistics, delta),
    "taylor": lambda params, statistics, delta: taylor(statistics, delta),
    "activation_aware": lambda params, statistics, delta: activation_aware(params, statistics),
    "wanda": lambda params, statistics, delta: wanda(params, statistics),
    "owq_columns": owq_columns,
    "super_weights": lambda params, statistics, delta: super_weights(params, statistics),
}
"""Every criterion that does not tell languages apart: (params, statistics, delta) -> scores."""


def _check_fit(trees: Mapping[str, dict]) -> None:
    """Refuse trees whose leaves differ from those of the first in name or shape."""
    (first, expected), *others = (
        (name, {path: jnp.shape(leaf) for path, leaf in leaf_paths(tree).items()})
        for name, tree in trees.items()
    )
    for name, found in others:
        if found.keys() != expected.keys():
            odd = sorted(found.keys() ^ expected.keys())
            raise InputError(f"`{name}` and `{first}` differ in the leaves {odd}")
        for path, shape in expected.items():
            if found[path] != shape:
                raise InputError(
                    f"`{name}` at {path} has shape {found[path]}; `{first}` has {shape}"
                )


def _each(function: Callable[..., Array], **trees: dict) -> dict:
    """`jax.tree.map` over trees that fit; their names are for the message if they do not."""
    _check_fit(trees)
    return jax.tree.map(lambda *leaves: function(*map(jnp.asarray, leaves)), *trees.values())


def _along_inputs(values: Array, path: str, weights: Array) -> Array:
    """Values per layer and input, placed on a matrix's axes."""
    kept = {*contracted_axes(path), layer_axis(path)}
    expected = tuple(n for a, n in enumerate(weights.shape) if a in kept)
    if values.shape != expected:
        raise InputError(f"`statistics.inputs` at {path} have {values.shape}, not {expected}")
    return values.reshape([n if a in kept else 1 for a, n in enumerate(weights.shape)])


def _from_inputs(
    leaf: Callable[[str, Array, InputStatistics], Array], params: Params, statistics: Statistics
) -> dict:
    """Scores of every matrix that takes part in a product, 0 elsewhere."""
    paths = leaf_paths(params).keys()
    products = {path for path in paths if path.endswith("/kernel")}
    if "head/kernel" not in paths:
        products |= {"embed/tokens"} & paths
    if products != statistics.inputs.keys():  # else a matrix would score 0 without a word
        odd = sorted(products ^ statistics.inputs.keys())
        raise InputError(f"`statistics.inputs` and `params` differ in the matrices {odd}")

    def one(path: str, weights: Array) -> Array:
        of = statistics.inputs.get(path)
        return jnp.zeros(weights.shape, jnp.float32) if of is None else leaf(path, weights, of)

    return map_leaves(one, params)


def _total(scores: dict, name: str) -> Array:
    total = jnp.asarray(sum(jnp.sum(leaf) for leaf in jax.tree.leaves(scores)))
    usable = jnp.isfinite(total) & (total > 0)
    if not isinstance(usable, Tracer) and not usable:
        raise InputError(f"`{name}` sum to {total}; scores must be finite and above 0 in sum")
    return jnp.where(usable, total, jnp.nan)
