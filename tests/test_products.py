"""Every float32 product of the programs is asked for in full precision, or in the user's choice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.products import einsum
from jaxprotect.quantization.compensation import output_error
from jaxprotect.quantization.packed_kernel import packed_matmul
from jaxprotect.quantization.packed_params import packed_params
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.results import device
from jaxprotect.selection import masks
from jaxprotect.selection.sensitivity import row_statistics
from tests.tiny import CONFIG, random_params

TOKENS = np.ones((2, 8), np.int32)
SCORED = np.ones((2, 8), bool)


def precisions(jaxpr):
    """Of all products of float32, inner programs too."""
    found = []
    for equation in jaxpr.eqns:
        multiplies = equation.primitive.name == "dot_general"
        if multiplies and equation.invars[0].aval.dtype == jnp.float32:
            found.append(equation.params["precision"])
        for inner in jaxprs_in_params(equation.params):
            found += precisions(inner)
    return found


def loss(params):
    return sentence_nats(params, jnp.asarray(TOKENS), jnp.asarray(SCORED), config=CONFIG)


def gradient(params):
    return jax.grad(lambda tree: loss(tree).sum())(params)


def statistics(params):
    return row_statistics(params, TOKENS, SCORED, None, CONFIG)


def packed(params):
    spec = QuantSpec()
    arrays = dict(pack_tensors(params, masks.none(params), spec, CONFIG))
    tree = packed_params(arrays.__getitem__, spec, CONFIG)
    layer = jax.tree.map(lambda leaf: leaf[0], tree["blocks"]["mlp"]["up"]["kernel"])
    return functools.partial(packed_matmul, packed=layer)


def compensation(x):
    return output_error(x, x)


PROGRAMS = {"loss": loss, "gradient": gradient, "statistics": statistics}


def made(name):
    params = random_params()
    if name == "packed":
        return jax.make_jaxpr(packed(params))(jnp.ones((1, CONFIG.width)))
    if name == "compensation":
        return jax.make_jaxpr(compensation)(jnp.ones((4, 4)))
    return jax.make_jaxpr(PROGRAMS[name])(params)


@pytest.mark.parametrize("name", [*PROGRAMS, "packed", "compensation"])
def test_products_of_float32_are_float32(name):
    highest = jax.lax.Precision.HIGHEST
    found = precisions(made(name).jaxpr)
    assert found
    assert all(precision == (highest, highest) for precision in found)


def test_a_user_may_choose_another_precision():
    with jax.default_matmul_precision("bfloat16"):
        found = precisions(made("loss").jaxpr)
        assert device()["matmul_precision"] == "bfloat16"
    assert found
    assert all(p == (jax.lax.Precision.DEFAULT,) * 2 for p in found)
    assert device()["matmul_precision"] == "highest"


def test_other_types_are_multiplied_as_they_are():
    half = jnp.ones((2, 2), jnp.bfloat16)
    program = jax.make_jaxpr(lambda x: einsum("ij,jk->ik", x, x))(half)
    assert [
        eqn.params["precision"] for eqn in program.jaxpr.eqns if "dot" in eqn.primitive.name
    ] == [None]
