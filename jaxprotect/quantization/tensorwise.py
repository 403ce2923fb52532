"""Quantizing a model that is never whole in memory: one checkpoint tensor at a time.

No scale reaches beyond a checkpoint tensor, so that the values are those of `quantize`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxprotect.cuts import Cut, above_cut
from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.layout import layers_of
from jaxprotect.quantization.matrices import tensor_name
from jaxprotect.quantization.quantize import Mask, check_tree, quantize_any_leaf
from jaxprotect.quantization.spec import DATA_FREE_RANGES, QuantSpec
from jaxprotect.trees import leaf_paths

Chosen = Mask | Cut
"""What is protected: by a mask, or by a cut of |w| whose ties go by `tensor_name`."""


def quantize_tensor(
    weights: Float[Array, "..."],
    path: str,
    layer: int | None,
    chosen: Chosen | None,
    spec: QuantSpec,
) -> Float[Array, "..."]:
    """One checkpoint tensor as the quantized model computes with it.

    Args:
        weights: a leaf; in the blocks, one layer of it, stacked by itself.
        path: leaf path.
        layer: which layer, in the blocks; else None.
        chosen: what is protected in the whole model; nothing if None.
        spec: the quantizer.

    Returns:
        What `quantize` gives for the same mask, same shape and dtype.
    """
    flags = jnp.zeros((), bool)
    if isinstance(chosen, Cut):
        ties = chosen.ties.get(tensor_name(path, layer))
        if ties is not None:
            return _above_cut(weights, Cut(key=chosen.key, ties={path: ties}), path, spec)
    elif chosen is not None:
        flags = jnp.asarray(leaf_paths(chosen)[path])
        if layer is not None and flags.ndim == weights.ndim and flags.shape[0] > 1:
            flags = flags[layer : layer + 1]
    return _protected(weights, flags, path, spec)


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _protected(
    weights: Float[Array, "..."], flags: Bool[Array, "..."], path: str, spec: QuantSpec
) -> Float[Array, "..."]:
    return quantize_any_leaf(weights, flags, path, spec)


@functools.partial(jax.jit, static_argnames=("path", "spec"))
def _above_cut(
    weights: Float[Array, "..."], cut: Cut, path: str, spec: QuantSpec
) -> Float[Array, "..."]:
    return quantize_any_leaf(weights, above_cut({path: jnp.abs(weights)}, cut)[path], path, spec)


def tensors_of(config: ModelConfig) -> dict[str, tuple[str, int | None, tuple[int, ...]]]:
    """The checkpoint tensors of an architecture, by leaf and then by layer.

    Args:
        config: the architecture.

    Returns:
        `tensor_name` -> leaf path, layer or None, and the leaf's shape.
    """
    return {
        tensor_name(path, layer): (path, layer, leaf.shape)
        for path, leaf in leaf_paths(parameter_shapes(config)).items()
        for layer in layers_of(path, leaf.shape)
    }


def check_chosen(chosen: Chosen | None, spec: QuantSpec, config: ModelConfig) -> None:
    """Refuse what cannot be quantized tensor by tensor.

    Args:
        chosen: what is protected; nothing if None.
        spec: the quantizer.
        config: the architecture.

    Raises:
        InputError: a mask or a cut of another architecture, or ranges that need data.
    """
    if spec.ranges not in DATA_FREE_RANGES:
        raise InputError(
            f"`spec.ranges` is {spec.ranges!r}, which needs data and the whole model; without it "
            f"allowed are {', '.join(DATA_FREE_RANGES)}"
        )
    if isinstance(chosen, Cut):
        if unknown := sorted(chosen.ties.keys() - tensors_of(config).keys()):
            raise InputError(f"`mask` is a cut of another model: this one has no {unknown[:3]}")
    elif chosen is not None:
        check_tree("mask", chosen, config)
