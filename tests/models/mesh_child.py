"""A process with eight devices: what it finds on meshes, beside what one of them finds alone.

    python -m tests.models.mesh_child FOLDER [--statistics] data=2,model=2 ...

FOLDER holds `model` and `texts`; statistics take longest to compile. Prints JSON: mesh -> what is
the same, what is close, and the share of each tree that the first device holds.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Eight devices wait for each other on two cores, and for whatever else these do.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxprotect as jp
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.models.mesh_shapes import parse_mesh
from jaxprotect.models.meshes import make_mesh, mesh_of, place
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.packing import pack_tensors
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.selection.guided import corrected_gains
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.selection.top_gains import minimax_choice
from jaxprotect.trees import leaf_paths
from tests.tiny import random_square

SPEC = jp.QuantSpec(bits=3, ranges="mse")


def sensitivities(model: Model, encoded: Encoded) -> dict[str, Any]:
    """Statistics of a language, and the set that they choose."""
    found = language_statistics(model.params, encoded, model.config, language="heb_Hebr")
    return {
        "statistics": [found.gradient, found.absolute, found.square],
        "inputs": found.inputs,
        "sensitivity": jp.masks.by_score(jp.scores.fisher(found), fraction=0.05),
    }


def guided(params: Params, square: Params) -> dict[str, np.ndarray]:
    """The set that serves the worse of two languages best."""
    squares = {"eng_Latn": square, "heb_Hebr": jax.tree.map(lambda leaf: leaf**2, square)}
    nats = {"eng_Latn": 1.0, "heb_Hebr": 2.0}
    gains, losses = corrected_gains(params, squares, nats, SPEC, jp.masks.none(params), None)
    return minimax_choice(gains, losses, count=1000)[1]


def findings(model: Model, encoded: Encoded, scores: Params) -> dict[str, Any]:
    """What the other rooms make of a model: nats, masks, quantized and packed weights."""
    params, config = model.params, model.config
    magnitude = jp.masks.by_magnitude(params, fraction=0.05)
    quantized = quantize_tree(params, magnitude, SPEC, config)
    return {
        "nats": evaluate_encoded(params, encoded, config).nats,
        "magnitude": magnitude,
        "random": jp.masks.random(params, fraction=0.05, seed=3),
        "scores": jp.masks.by_score(scores, fraction=0.05),
        "guided": guided(params, scores),
        "quantized": quantized,
        "nats of quantized": evaluate_encoded(quantized, encoded, config).nats,
        "packed": dict(pack_tensors(params, magnitude, SPEC, config)),
    }


def arrays(tree: Any) -> list[np.ndarray]:
    """Leaves on the host, in float64 where they are numbers to compare."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def close(one: Any, other: Any) -> bool:
    """Within 1e-5 of the largest of a leaf."""
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(np.abs(a - b).max() <= 1e-5 * np.abs(a).max() for a, b in pairs)


def differ(one: Params, other: Params) -> float:
    """The share of one mask's weights that the other does not have."""
    pairs = list(zip(arrays(one), arrays(other), strict=True))
    return sum(int((a & ~b).sum()) for a, b in pairs) / sum(int(a.sum()) for a, _ in pairs)


def share_of_one_device(params: Params) -> float:
    """The share of a model's numbers that the first device holds."""
    leaves = leaf_paths(params).values()
    held = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    return held / sum(leaf.size for leaf in leaves)


def main(folder: Path, meshes: list[str], statistics: bool) -> None:
    """Print what is the same."""
    model = jp.load_model(folder / "model")
    encoded = encode(model, jp.load_texts(folder / "texts"))
    scores = random_square(model.params, 0)

    def everything(of: Model, scores: Params) -> dict[str, Any]:
        found = findings(of, encoded, scores)
        return found | (sensitivities(of, encoded) if statistics else {})

    alone = everything(model, scores)
    numbers = {"nats", "statistics", "inputs", "nats of quantized"} & alone.keys()
    trees = {"quantized", "statistics"} & alone.keys()
    report: dict[str, dict[str, Any]] = {}
    for text in meshes:
        shape = parse_mesh(text)
        devices = jax.devices()[: shape.data * shape.model]
        mesh = make_mesh(model.config, shape, devices)
        placed = place(model.params, mesh)
        found = everything(replace(model, params=placed), place(scores, mesh))
        shares = {"params": share_of_one_device(placed)}
        shares |= {name: share_of_one_device(_tree(found[name])) for name in trees}
        report[text] = {
            "same": {name: same(alone[name], found[name]) for name in alone},
            "close": {name: close(alone[name], found[name]) for name in numbers},
            "stays": all(mesh_of(found[name]) == mesh for name in trees),
            "shares": shares,
        }
        if statistics:
            report[text]["differ"] = differ(alone["sensitivity"], found["sensitivity"])
    sys.stdout.write(json.dumps(report))


def _tree(found: Any) -> Params:
    """A tree like the params; of statistics, the squares."""
    return found[2] if isinstance(found, list) else found


if __name__ == "__main__":
    words = sys.argv[2:]
    wanted = [word for word in words if word != "--statistics"]
    main(Path(sys.argv[1]), wanted, "--statistics" in words)
