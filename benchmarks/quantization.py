"""Quantizing a whole model under a mask, against copying the same bytes."""

import jax
import jax.numpy as jnp

from benchmarks.rows import Row, share
from benchmarks.shapes import Options, gpt2, random_params
from benchmarks.timing import interleaved
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection import masks


def run(options: Options) -> list[Row]:
    """INT4 per output channel and in groups of 64, 1 % protected by magnitude."""
    config = gpt2(options)
    params = random_params(config)
    mask = masks.by_magnitude(params, fraction=0.01)
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    specs = {"channel": QuantSpec(), "group of 64": QuantSpec(granularity="group")}
    candidates = {
        name: lambda spec=spec: quantize_tree(params, mask, spec, config)
        for name, spec in specs.items()
    }
    timed = interleaved(candidates | {"copy": lambda: copy(params)}, repeats=options.repeats)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    rows = [
        Row(
            benchmark="copy of the params",
            against="",
            value=2 * size / timed.median("copy") / 1e9,
            unit="GB/s",
        )
    ]
    for name in specs:
        of_copy = 1 / timed.ratio(name, "copy")[0]
        title = f"quantize + mask, INT4 per {name}"
        rows.append(Row(benchmark=title, against="", value=timed.median(name), unit="s"))
        rows.append(share(title, "copy bandwidth", of_copy, 0.6))
    return rows
