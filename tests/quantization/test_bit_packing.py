import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect.errors import InputError
from jaxprotect.quantization.bit_packing import pack_bits, unpack_bits

unpack = jax.jit(unpack_bits, static_argnums=(1, 2))


def random_codes(count: int, bits: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint8)


@pytest.mark.parametrize("bits", range(2, 9))
@settings(max_examples=15, deadline=None)
@given(count=st.integers(0, 50), seed=st.integers(0, 9))
def test_codes_come_back_from_as_few_bytes_as_possible(bits, count, seed):
    codes = random_codes(count, bits, seed)
    packed = pack_bits(codes, bits)
    assert packed.nbytes == math.ceil(count * bits / 8)
    np.testing.assert_array_equal(unpack_bits(jnp.asarray(packed), count, bits), codes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_bits_are_one_little_endian_number(bits):
    codes = random_codes(1001, bits)
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes))
    assert pack_bits(codes, bits).tobytes() == number.to_bytes(math.ceil(1001 * bits / 8), "little")


@pytest.mark.parametrize("bits", range(2, 9))
def test_compiled_unpacking_reads_whole_groups_anywhere(bits):
    codes = random_codes(64, bits)
    packed = jnp.asarray(pack_bits(codes, bits))
    np.testing.assert_array_equal(unpack(packed, 64, bits), codes)
    # Eight codes are b bytes: a slice that starts there is packed itself.
    np.testing.assert_array_equal(unpack(packed[2 * bits :], 48, bits), codes[16:])


def test_what_does_not_fit_is_refused():
    codes = np.array([3, 4], np.uint8)
    with pytest.raises(InputError, match="`codes` has 4; allowed with 2 bits are 0 to 3"):
        pack_bits(codes, 2)
    for bits in (1, 9):
        with pytest.raises(InputError, match=f"`bits` is {bits}; allowed are 2 to 8"):
            pack_bits(codes, bits)
        with pytest.raises(InputError, match=f"`bits` is {bits}"):
            unpack_bits(jnp.zeros(8, jnp.uint8), 2, bits)
    with pytest.raises(InputError, match="`packed` has 1 bytes; 3 codes of 4 bits need 2"):
        unpack_bits(jnp.zeros(1, jnp.uint8), 3, 4)
