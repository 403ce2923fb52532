"""Peak memory of the steps of a plan, in a process of its own.

    python -m tests.runs.peak_child measured SHAPE MESH STEP ...
    python -m tests.runs.peak_child planned SHAPE MESH

Prints JSON, step -> bytes that it had in memory beside those of the process, or bytes that are
planned for all of the mesh's devices and their host. The model is random, what runs is what runs
for a real one. Each step is done once before it is measured, so that the compiler and what it
leaves are not the step's.
"""

import os
import sys

if __name__ == "__main__":
    # Blocks that are freed go back to the system at once, else they count as used.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    if not malloc.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, os.environ | malloc)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=8"
        " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
        " --xla_cpu_collective_call_terminate_timeout_seconds=600"
    )

import ctypes
import gc
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from jaxprotect.evaluation.batches import Row, batches_of
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.meshes import make_mesh, parse_mesh, partition
from jaxprotect.models.transformer import Params, parameter_shapes
from jaxprotect.quantization.quantize import quantize
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.plan import plan
from jaxprotect.runs.plan_batches import Work
from jaxprotect.selection import masks
from jaxprotect.selection.guided import corrected_gains
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.selection.top_gains import minimax_choice
from jaxprotect.trees import map_leaves

SHAPES = {
    "27M": ModelConfig(
        family="gpt2", layers=6, width=512, heads=8, mlp_width=2048, vocab_size=16384, context=128
    ),
    "124M": ModelConfig(
        family="gpt2",
        layers=12,
        width=768,
        heads=12,
        mlp_width=3072,
        vocab_size=50257,
        context=1024,
    ),
}
"""Name -> architecture; the second is GPT-2's."""

LENGTH = 64
BATCHES = 6
"""More than one: results are read after all batches are queued."""


def status(name: str) -> int:
    """Bytes that this process has in memory (VmRSS), or has had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peak(step: Callable[[], None]) -> int:
    """Bytes that a step takes at most beside what is there before."""
    step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM is VmRSS now
    step()
    return status("VmHWM") - before


def params(config: ModelConfig, mesh: Mesh | None) -> Params:
    """Weights that lie on their devices, and nowhere else."""
    generator = np.random.default_rng(0)

    def leaf(path: str, shape: jax.ShapeDtypeStruct) -> jax.Array:
        values = 0.02 * generator.standard_normal(shape.shape, np.float32)
        where = None if mesh is None else partition(path, shape.shape, mesh)
        return jax.block_until_ready(jax.device_put(values, where, may_alias=False))

    return map_leaves(leaf, parameter_shapes(config))


def texts(config: ModelConfig, batch_tokens: int) -> Encoded:
    """As many sentences of one length as fill some batches."""
    rows = BATCHES * (batch_tokens // (LENGTH + 1))
    ones = [
        Row(language=0, sentence=i, tokens=[1] * (LENGTH + 1), scored=(1, LENGTH + 1))
        for i in range(rows)
    ]
    counts = {"eng_Latn": np.full(rows, LENGTH)}
    return Encoded(
        batches=batches_of(
            ones, context=config.context, batch_tokens=batch_tokens, max_batch=None, padding=0
        ),
        languages=("eng_Latn",),
        ids=tuple(range(rows)),
        tokens=counts,
        bytes=counts,
        characters=counts,
    )


def steps(config: ModelConfig, mesh: Mesh | None) -> dict[str, Callable[[], None]]:
    """Name of a step -> what it does, from the weights on."""

    def evaluate() -> None:
        evaluate_encoded(params(config, mesh), texts(config, 4096), config)

    def statistics() -> None:
        language_statistics(params(config, mesh), texts(config, 1024), config)

    def quantized() -> tuple[Params, Params, Params]:
        weights = params(config, mesh)
        mask = jax.tree.map(
            lambda leaf: jax.device_put(np.zeros(leaf.shape, bool), leaf.sharding, may_alias=False),
            weights,
        )
        made = quantize(weights, mask, QuantSpec(), config)
        return weights, mask, jax.block_until_ready(made)

    def quantize_only() -> None:
        quantized()

    def choose() -> None:
        weights = params(config, mesh)
        squares = {"eng_Latn": jax.tree.map(lambda leaf: abs(leaf), weights)}
        gains, losses = corrected_gains(
            weights, squares, {"eng_Latn": 1.0}, QuantSpec(), masks.none(weights), None
        )
        minimax_choice(gains, losses, count=1000)

    def evaluate_quantized() -> None:
        _weights, _mask, made = quantized()
        evaluate_encoded(made, texts(config, 4096), config)

    return {
        "evaluate": evaluate,
        "statistics": statistics,
        "choose": choose,
        "quantize": quantize_only,
        "evaluate quantized": evaluate_quantized,
    }


if __name__ == "__main__":
    what, shape, mesh, *names = sys.argv[1:]
    config, wanted = SHAPES[shape], parse_mesh(mesh)
    devices = wanted.data * wanted.model
    on = None if devices == 1 else make_mesh(config, wanted, jax.devices()[:devices])
    if what == "planned":
        made = plan(config, on, work=Work(length=LENGTH, languages=1))
        answer = {step.name: devices * step.bytes + step.host for step in made.steps}
    else:
        found = steps(config, on)
        answer = {name: peak(found[name]) for name in names or found}
    sys.stdout.write(json.dumps(answer))
