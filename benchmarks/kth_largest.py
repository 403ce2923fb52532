"""The exact k-th largest of all scores of a tree, never concatenated."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.rows import Row, speedup
from benchmarks.shapes import Options
from benchmarks.timing import interleaved
from benchmarks.torch_peer import tensor, torch_device
from jaxprotect.counting import order_keys
from jaxprotect.cuts import find_cut

SIZE = 124_000_000
SHARE = 0.01
"""The k-th largest is wanted for k = 1 % of the scores."""


def run(options: Options) -> list[Row]:
    """124 million scores in twelve leaves; the peers get them concatenated, for nothing."""
    import torch

    size = 120_000 if options.small else SIZE
    scores = np.abs(np.random.default_rng(0).standard_normal(size, np.float32))
    parts = np.array_split(scores, 12)
    on_gpu = torch_device() == "cuda"
    leaves = {f"leaf {i}": jnp.asarray(p) if on_gpu else p for i, p in enumerate(parts)}
    k = int(SHARE * size)
    concatenated = tensor(scores)

    def ours() -> Any:
        return find_cut(leaves, k).key

    def partition() -> Any:
        return np.partition(scores, size - k)[size - k]

    def kthvalue() -> Any:
        return torch.kthvalue(concatenated, size - k + 1).values.cpu().numpy()

    expected = order_keys(np.asarray(partition()))
    assert int(ours()) == int(expected) == int(order_keys(np.asarray(kthvalue())))
    timed = interleaved(
        {"ours": ours, "partition": partition, "kthvalue": kthvalue}, repeats=options.repeats
    )
    name = f"exact k-th largest of {size:,}"
    return [
        Row(benchmark=name, against="", value=timed.median("ours"), unit="s"),
        speedup(name, "np.partition", timed.ratio("partition", "ours"), 3.0),
        speedup(name, "torch.kthvalue", timed.ratio("kthvalue", "ours"), 3.0),
    ]
