"""A product straight from packed codes, against the dense one in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rows import Row, bounded, speedup
from benchmarks.shapes import Options, gpt2, random_params
from benchmarks.timing import interleaved
from jaxprotect.quantization.packed_kernel import packed_matmul
from jaxprotect.quantization.packed_params import packed_params
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks


def run(options: Options) -> list[Row]:
    """An MLP matrix of GPT-2, INT4 in groups of 64 with 1 % protected; batch 1 and 256."""
    config = gpt2(options)
    params = random_params(config)
    spec = QuantSpec(granularity="group", protected_dtype="float16")
    mask = masks.by_magnitude(params, fraction=0.01)
    arrays = dict(pack_tensors(params, mask, spec, config))
    packed = packed_params(arrays.__getitem__, spec, config)
    layer = jax.tree.map(lambda leaf: leaf[0], packed["blocks"]["mlp"]["up"]["kernel"])
    dense = params["blocks"]["mlp"]["up"]["kernel"][0].astype(jnp.bfloat16)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(layer))
    name, against = "packed matrix, INT4 + 1 %", "dense bfloat16"
    rows = [bounded(name, against, size / dense.nbytes, "of its bytes", 1.0)]
    multiply, plain = jax.jit(packed_matmul), jax.jit(jnp.matmul)
    for batch in (1, 256):
        drawn = np.random.default_rng(0).standard_normal((batch, config.width), np.float32)
        x = jnp.asarray(drawn)
        half = x.astype(jnp.bfloat16)
        timed = interleaved(
            {
                "packed": lambda x=x: multiply(x, layer),
                "dense": lambda half=half: plain(half, dense),
            },
            repeats=10 * options.repeats,
        )
        # A goal on a GPU only; here it is what reading little memory costs in arithmetic.
        found = timed.ratio("dense", "packed")
        on_gpu = jax.default_backend() == "gpu" and batch == 1
        title = f"packed product, batch {batch}"
        rows.append(
            speedup(title, "dense bfloat16", found, 1.0)
            if on_gpu
            else Row(
                benchmark=title,
                against="dense bfloat16",
                value=found[0],
                unit="x",
                low=found[1],
                high=found[2],
            )
        )
    return rows
