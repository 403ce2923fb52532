"""Seconds to trace and compile the loss and its statistics at 4 and at 48 layers."""

import time
from dataclasses import replace
from typing import Any

import jax

from benchmarks.rows import Row, bounded
from benchmarks.shapes import Options, gpt2
from jaxprotect.evaluation.loss import sentence_nats
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.selection.sensitivity import row_statistics

DEPTHS = (4, 48)


def run(options: Options) -> list[Row]:
    """Constant, since the blocks are one scan."""
    rows = []
    batch, length = (2, 16) if options.small else (8, 128)
    tokens = jax.ShapeDtypeStruct((batch, length + 1), "int32")
    scored = jax.ShapeDtypeStruct((batch, length + 1), "bool")

    def loss(config: Any, params: Any) -> Any:
        compiled = jax.jit(sentence_nats, static_argnames="config")
        return compiled.lower(params, tokens, scored, config=config).compile()

    def gradients(config: Any, params: Any) -> Any:
        return row_statistics.lower(params, tokens, scored, None, config).compile()

    for name, build in (("loss", loss), ("gradient statistics", gradients)):
        seconds: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
        for _ in range(options.repeats):
            for depth in DEPTHS:
                config = replace(gpt2(options), layers=depth)
                params = parameter_shapes(config)
                jax.clear_caches()
                begin = time.perf_counter()
                build(config, params)
                seconds[depth].append(time.perf_counter() - begin)
        shallow, deep = (sorted(seconds[d])[len(seconds[d]) // 2] for d in DEPTHS)
        title, against = f"compile {name}", f"{DEPTHS[0]} layers"
        rows.append(Row(benchmark=title, against=against, value=shallow, unit="s"))
        rows.append(bounded(f"{title}, {DEPTHS[1]} layers", against, deep / shallow, "x", 1.1))
    return rows
