"""A whole model rounded with error compensation: layer by layer, on sentences that are weighed."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.config import ModelConfig, require_causal
from jaxprotect.models.transformer import Params, block_output, embed, embedding_norm, final_norm
from jaxprotect.products import einsum
from jaxprotect.progress import progress
from jaxprotect.quantization.compensation import Compensation, compensate_leaf
from jaxprotect.quantization.grid import Bits, Grids, compiled_leaf_grid
from jaxprotect.quantization.quantize import Mask, quantize_leaf, quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.rows import language_rows, row_batches
from jaxprotect.trees import leaf_paths, map_leaves

BATCH_TOKENS = 1024
"""Tokens of a batch; every language has batches of the same shapes."""

DEFAULT = Compensation()


@dataclass(frozen=True)
class _Recorder:
    """A kernel that tells of its inputs, in place of an array in a block's params."""

    kernel: Array
    tell: Callable[[Array], None]

    def project(self, x: Float[Array, "B T ..."], equation: str) -> Float[Array, "B T ..."]:
        self.tell(x)
        return einsum(equation, x, self.kernel)


@functools.partial(jax.jit, static_argnames="config")
def block_moments(
    block: Params,
    x: Float[Array, "B T D"],
    valid: Bool[Array, "B T"],
    layer: Array,
    config: ModelConfig,
) -> dict[str, Float[Array, "I I"]]:
    """Sum of x x^T over valid positions, of the inputs of every kernel of a block.

    Args:
        block: one layer's params.
        x: what the block reads.
        valid: whether a position belongs to a sentence.
        layer: which layer it is.
        config: the architecture.

    Returns:
        Leaf path -> the moments, contracted axes in one.
    """
    moments = {}

    def leaf(path: str, weights: Array) -> Array | _Recorder:
        if not path.endswith("/kernel"):
            return weights
        return _Recorder(weights, functools.partial(tell, f"blocks/{path}"))

    def tell(path: str, inputs: Array) -> None:
        moments[path] = _moment(inputs.reshape(*valid.shape, -1), valid)

    block_output(x, map_leaves(leaf, block), layer, config)
    return moments


@jax.jit
def _moment(x: Float[Array, "B T I"], valid: Bool[Array, "B T"]) -> Float[Array, "I I"]:
    real = jnp.where(valid[..., None], x, 0.0).astype(jnp.float32)
    return einsum("bti,btj->ij", real, real)


_block_output = jax.jit(block_output, static_argnames="config")


def compensate(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    config: ModelConfig,
    encoded: Encoded,
    *,
    weights: Mapping[str, float] | None = None,
    grids: Grids | None = None,
    bits: Bits | None = None,
    options: Compensation = DEFAULT,
    batch_tokens: int = BATCH_TOKENS,
) -> Params:
    """Weights on their grids that make up for each other's rounding errors.

    Each layer is solved for the inputs that the quantized layers before it give; inside a layer,
    later matrices see the inputs that the layer's original weights give. Embeddings are rounded
    plainly: they have no inputs, and a tied head is the embedding.

    Args:
        params: the unquantized parameter tree.
        mask: what is protected.
        spec: the quantizer.
        config: the architecture.
        encoded: sentences to serve; of the select split.
        weights: language -> how much each of its positions counts; all languages alike if not
            given, those that are not named not at all.
        grids: of leaves that are not to have the one that `spec.ranges` gives.
        bits: see `grid.Bits`.
        options: how errors are made up for.
        batch_tokens: most tokens of a batch; changes the result by rounding only.

    Returns:
        Params whose unprotected eligible weights are levels of the grids; all others are as they
        were. `quantize` with the same mask, grids and bits returns them as they are, protected
        weights as `spec.protected_dtype` stores them.

    Raises:
        InputError: weights of languages that are not in `encoded`, negative or all 0, a masked
            model, or what `quantize` and `compensate_leaf` refuse.
    """
    require_causal(config, "error compensation")
    plain = quantize_tree(params, mask, spec, config, bits=bits, grids=grids)
    flags, leaves = leaf_paths(mask), leaf_paths(params)
    batches = _batches(encoded, config, weights, batch_tokens)
    streams = [_first_stream(plain, tokens, config) for tokens, _, _ in batches]
    of_batches = [(valid, weight) for _, valid, weight in batches]
    solved: dict[str, list[Array]] = {}

    def solve(path: str, at: slice, moment: Array) -> Array:
        """The compensated slice of a leaf; what the model computes with is returned."""
        of_bits = bits and {p: b[at] if b.shape[0] > 1 else b for p, b in bits.items() if p == path}
        whole = (grids or {}).get(path)
        if whole is None:
            whole = compiled_leaf_grid(leaves[path], jnp.asarray(flags[path]), path, spec, bits)
        protected = jnp.broadcast_to(jnp.asarray(flags[path]), leaves[path].shape)[at]
        grid = jax.tree.map(lambda values: values[at], whole)
        one = compensate_leaf(
            leaves[path][at], protected, path, spec, grid, moment, options=options, bits=of_bits
        )
        solved.setdefault(path, []).append(one)
        return quantize_leaf(one, protected, path, spec, bits=of_bits, grid=grid)

    for layer in progress(range(config.layers), desc="compensate", unit="layer"):
        moments = {
            path: moment
            for path, moment in _layer_moments(params, streams, of_batches, layer, config).items()
            if is_eligible(path, spec.eligible)
        }
        at = slice(layer, layer + 1)
        rounded = {path: solve(path, at, moment[None])[0] for path, moment in moments.items()}
        block = _block_with(rounded, plain, layer)
        streams = [_block_output(x, block, jnp.asarray(layer), config=config) for x in streams]
    if not config.tied_head:
        total = sum(
            weight * _moment(final_norm(plain, x, config), valid)
            for x, (valid, weight) in zip(streams, of_batches, strict=True)
        )
        solve("head/kernel", slice(None), jnp.asarray(total))

    def leaf(path: str, weights: Array, protected: Array | np.ndarray, rounded: Array) -> Array:
        if path in solved:
            return jnp.concatenate(solved[path])
        if not is_eligible(path, spec.eligible):
            return weights
        return jnp.where(protected, weights, rounded)

    return map_leaves(leaf, params, mask, plain)


def _layer_moments(
    params: Params,
    streams: list[Array],
    of_batches: list[tuple[np.ndarray, float]],
    layer: int,
    config: ModelConfig,
) -> dict[str, Array]:
    """The weighted moments of one layer over all batches, with its original weights."""
    block = jax.tree.map(lambda leaf: leaf[layer], params["blocks"])
    total: dict[str, Array] = {}
    for x, (valid, weight) in zip(streams, of_batches, strict=True):
        parts = block_moments(block, x, jnp.asarray(valid), jnp.asarray(layer), config)
        for path, part in parts.items():
            total[path] = total[path] + weight * part if path in total else weight * part
    return total


def _block_with(rounded: dict[str, Array], params: Params, layer: int) -> Params:
    """One layer's params, with the kernels that have been solved."""
    return map_leaves(
        lambda path, leaf: rounded.get(f"blocks/{path}", leaf[layer]), params["blocks"]
    )


def _batches(
    encoded: Encoded, config: ModelConfig, weights: Mapping[str, float] | None, batch_tokens: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """(input tokens, valid positions, weight) of batches of one language each."""
    if weights is None:
        weights = dict.fromkeys(encoded.languages, 1.0)
    for language, weight in weights.items():
        if language not in encoded.languages:
            raise InputError(
                f"`weights` has {language!r}; the texts have {list(encoded.languages)}"
            )
        if not 0 <= weight < float("inf"):
            raise InputError(
                f"`weights` has {weight} for {language}; allowed are finite numbers, at least 0"
            )
    total = sum(weights.values())
    if not total > 0:
        raise InputError("`weights` are all 0; at least one language must count")
    batches = []
    for language, weight in weights.items():
        rows = language_rows(encoded, language) if weight > 0 else []
        for batch in row_batches(rows, context=config.context, batch_tokens=batch_tokens, seed=0):
            scored = batch.scored[:, 1:]
            valid = np.flip(np.cumsum(np.flip(scored, 1), axis=1), 1) > 0
            batches.append((batch.tokens[:, :-1], valid, weight / total))
    return batches


def _first_stream(params: Params, tokens: np.ndarray, config: ModelConfig) -> Array:
    return embedding_norm(params, embed(params, jnp.asarray(tokens), config), config)
