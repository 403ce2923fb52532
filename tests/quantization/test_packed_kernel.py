"""Packed matrices: products, rows and logits like those of the dense weights they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import forward, unembed
from jaxprotect.quantization import packed_params as packed_params_module
from jaxprotect.quantization.matrices import as_matrix
from jaxprotect.quantization.packed_kernel import (
    PackedKernel,
    packed_dense,
    packed_matmul,
    packed_rows,
)
from jaxprotect.quantization.packed_params import (
    check_dense,
    is_packed,
    packed_params,
    unpack_params,
)
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.quantize import quantize_leaves
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks
from jaxprotect.selection.sensitivity import language_statistics
from tests.quantization.packing_cases import CASES, mixed_bits, name_of, random_mask
from tests.tiny import CONFIG, SEPARATE, random_params

pytestmark = pytest.mark.slow

TOKENS = np.random.default_rng(0).integers(0, 37, (3, 11))


def slow(found):
    return pytest.param(found, marks=pytest.mark.slow)


def packed_and_dense(config, spec, seed=0, mixed=False, mask=None):
    params = random_params(config, seed)
    mask = random_mask(params, seed) if mask is None else mask
    bits = mixed_bits(params, spec, seed) if mixed else None
    with jax.disable_jit():
        tensors = dict(pack_tensors(params, mask, spec, config, bits=bits))
        dense = quantize_leaves(params, mask, spec, config, bits=bits)
        return packed_params(tensors.__getitem__, spec, config), dense


def kernels(params) -> list[PackedKernel]:
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, PackedKernel))
    return [leaf for leaf in leaves if isinstance(leaf, PackedKernel)]


def assert_close(ours, theirs, bar=1e-5):
    error = float(jnp.abs(ours - theirs).max())
    assert error <= bar * float(jnp.abs(theirs).max())


@pytest.mark.parametrize("tile", [2**16, 8 * 16])
@pytest.mark.parametrize(
    "found", [CASES[8], *map(slow, (CASES[1], CASES[5], CASES[10]))], ids=name_of
)
def test_products_and_rows_are_those_of_the_dense_matrix(found, tile, monkeypatch):
    monkeypatch.setattr(packed_params_module, "TILE", tile)
    config, spec, seed, mixed = found
    packed, dense = packed_and_dense(config, spec, seed, mixed)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, config.mlp_width)), jnp.float32)
    down = jax.tree.map(lambda leaf: leaf[1], packed["blocks"]["mlp"]["down"]["kernel"])
    matrix = as_matrix(dense["blocks"]["mlp"]["down"]["kernel"][1], "blocks/mlp/down/kernel")
    assert down.kind.shape[0] >= (1 if tile == 2**16 else 2)
    np.testing.assert_array_equal(packed_dense(down), matrix)
    product = jax.jit(packed_matmul)(x, down)
    assert_close(product, x @ matrix.T)
    assert_close(down.project(x, "btf,fd->btd"), product)
    table = packed["embed"]["tokens"]
    np.testing.assert_array_equal(
        jax.jit(packed_rows)(table, TOKENS), dense["embed"]["tokens"][TOKENS]
    )
    np.testing.assert_array_equal(table[3:7], dense["embed"]["tokens"][3:7])


@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_a_product_of_every_width(width, granularity):
    spec = QuantSpec(bits=width, granularity=granularity, group_size=5, symmetric=width % 2 == 0)
    config = ModelConfig(
        family="gpt2", layers=1, width=6, heads=1, mlp_width=7, vocab_size=11, context=3
    )
    packed, dense = packed_and_dense(config, spec, width)
    table, weights = packed["embed"]["tokens"], dense["embed"]["tokens"]
    x = jnp.asarray(np.random.default_rng(width).normal(size=(5, 6)), jnp.float32)
    with jax.disable_jit():
        assert_close(unembed(packed, x, config), x @ weights.T)
        np.testing.assert_array_equal(table[jnp.arange(11)], weights)


@pytest.mark.parametrize("found", [CASES[4], *map(slow, (CASES[9], CASES[7]))], ids=name_of)
def test_forward_and_loss_are_those_of_the_fake_quantized_model(found):
    config, spec, seed, mixed = found
    packed, dense = packed_and_dense(config, spec, seed, mixed)
    run = jax.jit(forward, static_argnums=2)
    assert_close(run(packed, TOKENS, config), run(dense, TOKENS, config))
    scored = np.ones(TOKENS.shape, bool)
    nats = jax.jit(sentence_nats, static_argnums=3)
    assert_close(nats(packed, TOKENS, scored, config), nats(dense, TOKENS, scored, config))


@pytest.mark.slow
def test_a_packed_model_holds_its_codes_and_little_else():
    config = ModelConfig(
        family="gpt2", layers=3, width=64, heads=4, mlp_width=256, vocab_size=512, context=32
    )
    params, spec = random_params(config), QuantSpec(bits=3, protected_dtype="float16")
    mask = masks.by_magnitude(params, fraction=0.01)
    packed, _ = packed_and_dense(config, spec, mask=mask)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(packed))
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert weights * 3 / 8 < held < weights * 6 / 8
    assert len(kernels(packed)) == 6
    assert is_packed(packed)
    assert not is_packed(unpack_params(packed, config))


def test_rows_protected_as_a_whole_have_no_codes_in_memory():
    params = random_params(SEPARATE)
    spec = QuantSpec(bits=4, protected_dtype="float16")
    packed, _ = packed_and_dense(SEPARATE, spec, mask=masks.heads(params, {0: [1], 1: [1]}))
    q = packed["blocks"]["attention"]["q"]["kernel"]
    assert q.kinds == (4, "float16")
    assert q.sparse is None
    out = packed["blocks"]["attention"]["out"]["kernel"]
    assert (out.kinds, out.sparse.of_row) == ((4,), 4)


def test_where_every_weight_is_needed_packed_params_are_refused():
    packed, _ = packed_and_dense(CONFIG, QuantSpec())
    for use in (
        lambda: check_dense("params", packed),
        lambda: masks.by_magnitude(packed, fraction=0.1),
        lambda: language_statistics(packed, object.__new__(Encoded), CONFIG),
    ):
        with pytest.raises(InputError, match="`params` is a packed model; allowed: the model it"):
            use()
    with pytest.raises(InputError, match="`params` and the model differ in the leaves"):
        quantize_leaves(packed, masks.none(random_params()), QuantSpec(), CONFIG)
