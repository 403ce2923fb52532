"""Masks, bits and quantizers that together reach every branch of the packed format."""

import jax.numpy as jnp
import numpy as np

from jaxprotect.models.axes import contracted_axes, is_eligible, layer_axis
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.matrices import from_matrix, tensor_shape
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths, map_leaves
from tests.tiny import CONFIG, SEPARATE

KINDS = ("none", "whole", "rows", "columns", "one", "few", "many")


def matrix_flags(shape: tuple[int, int], kind: str, draws: np.random.Generator) -> np.ndarray:
    """Protected weights of one matrix."""
    share = {"none": 0.0, "whole": 1.0, "few": 0.02, "many": 0.4, "rows": 0.3, "columns": 0.3}
    if kind == "one":
        flags = np.zeros(shape, bool)
        flags[draws.integers(shape[0]), draws.integers(shape[1])] = True
        return flags
    size = {"rows": (shape[0], 1), "columns": (1, shape[1])}.get(kind, shape)
    return np.broadcast_to(draws.random(size) < share[kind], shape)


def random_mask(params: Params, seed: int) -> Mask:
    """Every checkpoint tensor protected in its own way."""
    draws = np.random.default_rng(seed)

    def leaf(path: str, weights) -> np.ndarray:
        shape = tensor_shape(path, weights.shape)
        inputs = int(np.prod([weights.shape[a] for a in contracted_axes(path)] or shape))
        sizes = (int(np.prod(shape)) // inputs, inputs)
        flags = [
            from_matrix(matrix_flags(sizes, str(draws.choice(KINDS)), draws), path, shape)
            for _ in range(1 if layer_axis(path) is None else weights.shape[0])
        ]
        return flags[0] if layer_axis(path) is None else np.stack(flags)

    return map_leaves(leaf, params)


def mixed_bits(params: Params, spec: QuantSpec, seed: int) -> dict[str, np.ndarray]:
    """Every output channel (or tensor) of some leaves with bits of its own, 16 among them."""
    draws, bits = np.random.default_rng(seed), {}
    for path, weights in leaf_paths(params).items():
        inner = contracted_axes(path)
        if spec.granularity == "tensor" or not inner:
            inner = tuple(a for a in range(weights.ndim) if a != layer_axis(path))
        if is_eligible(path, spec.eligible) and draws.random() < 0.8:
            shape = [1 if axis in inner else size for axis, size in enumerate(weights.shape)]
            bits[path] = draws.choice([2, 3, 4, 5, 6, 7, 8, 16], shape)
    return bits


def case(seed, bits, granularity, symmetric, dtype, *, eligible="matrices", mixed=False):
    spec = QuantSpec(
        bits=bits,
        granularity=granularity,
        group_size=5,
        symmetric=symmetric,
        protected_dtype=dtype,
        eligible=eligible,
        scale_from="all" if seed % 3 == 0 else "unprotected",
    )
    return SEPARATE if seed in (3, 7) else CONFIG, spec, seed, mixed


CASES = [
    case(0, 2, "channel", True, "float32"),
    case(1, 3, "channel", True, "float16"),
    case(2, 4, "channel", False, "int8"),
    case(3, 5, "tensor", True, "bfloat16", eligible="weights"),
    case(4, 6, "tensor", False, "float16"),
    case(5, 7, "group", True, "int8"),
    case(6, 8, "group", False, "float16", eligible="everything"),
    case(7, 4, "channel", True, "float16", mixed=True),
    case(8, 3, "channel", False, "int8", mixed=True),
    case(9, 4, "tensor", False, "int8", eligible="everything", mixed=True),
    case(10, 4, "group", True, "float32", mixed=True),
    case(11, 2, "group", False, "bfloat16", eligible="weights", mixed=True),
]
"""(config, spec, seed, mixed precision)."""


def name_of(found) -> str:
    config, spec, _, mixed = found
    tied = "tied" if config.tied_head else "untied"
    return f"{tied}-{spec.label}-{spec.protected_dtype}-{spec.eligible}{'-mixed' * mixed}"


def tiny_values(params: Params) -> Params:
    """The params with some weights so small that half precision has no normal number for them."""

    def leaf(path: str, weights):
        return weights.at[(0,) * weights.ndim].set(jnp.float32(-3e-7))

    return map_leaves(leaf, params)
