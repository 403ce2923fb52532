"""Products of float32 that are float32, on every device.

JAX rounds the inputs of a float32 product on TPUs to bfloat16 and on recent GPUs to 10 bits, unless
it is told otherwise. Damages of a thousandth of a nat are measured here, and a mask is the same
bit for bit wherever it is made: so full precision is asked for, unless the user has chosen another
(`JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32`, or JAX's context of that name). Results say which.
"""

from typing import Any

import jax
import jax.numpy as jnp

FULL = "highest"
"""JAX's name for products of float32 in float32."""


def matmul_precision() -> str:
    """What products are made in: the user's choice for JAX, or full precision."""
    return jax.config.values["jax_default_matmul_precision"] or FULL


def einsum(equation: str, *operands: Any, **named: Any) -> jax.Array:
    """`jnp.einsum`, in `matmul_precision`.

    Args:
        equation: which axes are multiplied and summed.
        operands: arrays; other types than float32 are multiplied as they are.
        named: as for `jnp.einsum`.

    Returns:
        The product.
    """
    wide = all(jnp.result_type(operand) == jnp.float32 for operand in operands)
    return jnp.einsum(equation, *operands, precision=matmul_precision() if wide else None, **named)
