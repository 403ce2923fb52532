"""Codes of 2 to 8 bits <-> bytes, one after the other, least significant bits first.

Eight codes of b bits are b whole bytes, so that neither side ever looks at a single bit.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from jaxprotect.errors import InputError


def packed_bytes(count: int, bits: int) -> int:
    """ceil(count * bits / 8), the bytes of packed codes."""
    return -(-count * bits // 8)


def pack_bits(codes: UInt8[np.ndarray, "n"], bits: int) -> UInt8[np.ndarray, "bytes"]:
    """Pack codes: code i occupies the bits i * b to (i + 1) * b - 1 of the bytes.

    Args:
        codes: each from 0 to 2^b - 1.
        bits: b, 2 to 8.

    Returns:
        ceil(n * b / 8) bytes; the bits after the last code are 0.

    Raises:
        InputError: `bits` out of range, or a code that does not fit.

    >>> pack_bits(np.array([1, 2, 3], np.uint8), 4).tolist()
    [33, 3]
    """
    _check_bits(bits)
    largest = int(codes.max(initial=0))
    if largest >= 2**bits:
        raise InputError(f"`codes` has {largest}; allowed with {bits} bits are 0 to {2**bits - 1}")
    if bits == 8:
        return codes.copy()
    eights = np.zeros((math.ceil(len(codes) / 8), 8), np.uint8)
    eights.reshape(-1)[: len(codes)] = codes
    words = np.zeros(len(eights), "<u8")
    for position in range(8):
        words |= eights[:, position].astype("<u8") << np.uint64(position * bits)
    packed = words.view(np.uint8).reshape(-1, 8)[:, :bits].reshape(-1)
    return packed[: packed_bytes(len(codes), bits)].copy()


def unpack_bits(packed: UInt8[Array, "bytes"], count: int, bits: int) -> UInt8[Array, "n"]:
    """The codes that `pack_bits` packed; jit-able with `count` and `bits` static.

    Args:
        packed: at least ceil(n * b / 8) bytes.
        count: n, how many codes.
        bits: b, 2 to 8.

    Returns:
        The first n codes.

    Raises:
        InputError: `bits` out of range, or too few bytes.

    >>> unpack_bits(jnp.array([33, 3], jnp.uint8), 3, 4).tolist()
    [1, 2, 3]
    """
    _check_bits(bits)
    if packed.shape[0] < packed_bytes(count, bits):
        raise InputError(
            f"`packed` has {packed.shape[0]} bytes; {count} codes of {bits} bits need "
            f"{packed_bytes(count, bits)}"
        )
    if bits == 8:
        return packed[:count]
    eights = math.ceil(count / 8)
    wanted = min(packed.shape[0], eights * bits)
    groups = jnp.pad(packed[:wanted], (0, eights * bits - wanted)).reshape(eights, bits)
    codes = []
    for position in range(8):
        byte, shift = divmod(position * bits, 8)
        code = groups[:, byte] >> shift
        if shift + bits > 8:  # the rest is in the next byte
            code = code | (groups[:, byte + 1] << (8 - shift))
        codes.append(code & (2**bits - 1))
    return jnp.stack(codes, axis=1).reshape(-1)[:count]


def _check_bits(bits: int) -> None:
    if not 2 <= bits <= 8:
        raise InputError(f"`bits` is {bits}; allowed are 2 to 8")
