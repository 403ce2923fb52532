"""Nats of a batch: this project's jitted loss against torch `transformers`."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.ceilings import matrix_product_rate
from benchmarks.rows import Row, share, speedup
from benchmarks.shapes import (
    Options,
    gpt2,
    matrix_products,
    random_params,
    random_tokens,
)
from benchmarks.timing import interleaved
from benchmarks.torch_peer import tensor, torch_twin
from jaxprotect.evaluation.loss import sentence_nats


def run(options: Options) -> list[Row]:
    """Tokens per second at batch 8 of 256 tokens, float32."""
    import torch

    config = gpt2(options)
    batch, length = (2, 16) if options.small else (8, 256)
    params, tokens = random_params(config), random_tokens(config, batch, length)
    scored = np.ones(tokens.shape, bool)
    compiled = jax.jit(sentence_nats, static_argnames="config")

    def ours() -> Any:
        return compiled(params, tokens, scored, config=config)

    with tempfile.TemporaryDirectory() as folder:
        model = torch_twin(params, config, Path(folder) / "model")
    inputs = tensor(tokens).long()

    @torch.inference_mode()
    def theirs() -> Any:
        logits = model(inputs).logits[:, :-1]
        nats = torch.nn.functional.cross_entropy(
            logits.reshape(-1, config.vocab_size), inputs[:, 1:].reshape(-1), reduction="none"
        )
        return nats.reshape(batch, -1).sum(1).cpu().numpy()

    np.testing.assert_allclose(np.asarray(ours()), theirs(), rtol=1e-5)
    timed = interleaved({"ours": ours, "torch": theirs}, repeats=options.repeats)
    name = f"loss, {batch} x {length} tokens, float32"
    rate = batch * length / timed.median("ours")
    work = matrix_products(config, batch * (length - 1), length - 1, batch * (length - 1))
    limit = matrix_product_rate(options.repeats)
    return [
        Row(benchmark=name, against="", value=rate, unit="tokens/s"),
        speedup(name, "torch transformers", timed.ratio("torch", "ours"), 2.0),
        share(name, "matrix-product rate", work / timed.median("ours") / limit, 0.8),
        Row(benchmark="matrix-product rate", against="", value=limit / 1e9, unit="GFLOP/s"),
    ]
