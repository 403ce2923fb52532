"""What a model will need on a mesh, in bytes and seconds, before anything of it is loaded.

What a program works with is the compiler's own figure (`plan_programs`). What lies on a device
between programs (weights, a quantized copy, sums of statistics) is counted leaf by leaf, as the
mesh splits it.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jax.sharding import Mesh

from jaxprotect.errors import InputError
from jaxprotect.models.axes import is_eligible, is_matrix
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.mesh_shapes import DATA, MeshShape
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.plan_batches import Work, evaluated, measured
from jaxprotect.runs.plan_programs import (
    as_flags,
    held,
    placed_shapes,
    working_evaluation,
    working_quantization,
    working_statistics,
)
from jaxprotect.runs.scratch import LARGE
from jaxprotect.trees import leaf_paths

FORWARD, BACKWARD = 2, 4
"""Operations per weight and token: a product, and its gradients at inputs and weights."""

SUMS = 3
"""Trees of the size of the weights in a language's statistics: g, |g| and g^2."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Floating-point operations of one device per second.

    Args:
        forward: in evaluations.
        backward: in statistics.
    """

    forward: float
    backward: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of work.

    Args:
        name: what is done.
        weights: bytes of trees like the weights that lie on a device meanwhile.
        working: bytes that its program takes beside them, on a device.
        host: bytes of the first host's memory beside those of its devices.
        passes: over the sentences of all languages.
        operations: floating-point operations of all passes on one device, padding included.
        backward: they are those of gradients.
    """

    name: str
    weights: int
    working: int
    passes: int
    operations: float
    backward: bool = False
    host: int = 0

    @property
    def bytes(self) -> int:
        """Bytes on one device."""
        return self.weights + self.working


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a model needs on a mesh.

    Args:
        mesh: its shape.
        parameters: of the model.
        steps: the work, in order.
        statistics_bytes: of the statistics of all languages, on disk.
        gains_bytes: of the gains of all languages that are not kept in memory, on the disk of the
            run folder while a set is chosen; they vanish with it.
    """

    mesh: MeshShape
    parameters: int
    steps: tuple[Step, ...]
    statistics_bytes: int
    gains_bytes: int

    @property
    def devices(self) -> int:
        """How many devices the mesh has."""
        return self.mesh.data * self.mesh.model

    @property
    def peak(self) -> Step:
        """The step that needs most memory on a device."""
        return max(self.steps, key=lambda step: step.bytes)

    def rows(self, rates: Rates) -> list[dict[str, Any]]:
        """One row per step.

        Args:
            rates: of one device.

        Returns:
            Its fields, `bytes`, and `seconds` at those rates.
        """
        return [
            asdict(step)
            | {
                "bytes": step.bytes,
                "seconds": step.operations / (rates.backward if step.backward else rates.forward),
            }
            for step in self.steps
        ]


def plan(
    config: ModelConfig,
    mesh: Mesh | None = None,
    *,
    work: Work | None = None,
    spec: QuantSpec | None = None,
    groups: int | None = None,
) -> Plan:
    """What a search for a minimal set of a model needs; compiles its programs, loads nothing.

    Args:
        config: the architecture.
        mesh: of any devices that can compile; None for one device.
        work: how much is to be done.
        spec: the quantizer; INT4 per channel by default.
        groups: of devices, each with a copy of the weights, if there are more than the mesh has:
            what a device needs is the same for two as for a thousand.

    Returns:
        The plan.

    Raises:
        InputError: an amount of work below 1, a sentence longer than the model's context, or
            ranges that need data.
    """
    work, spec = work or Work(), spec or QuantSpec()
    _check(work, config)
    here, split = (1, 1) if mesh is None else (mesh.shape[DATA], mesh.size // mesh.shape[DATA])
    data = here if groups is None else groups
    shapes = placed_shapes(config, mesh)
    leaves = leaf_paths(shapes)
    eligible = {path: of for path, of in leaves.items() if is_eligible(path, spec.eligible)}
    weights, flags = held(shapes), held(as_flags(shapes))
    sizes = [4 * math.prod(of.shape) for of in eligible.values()]
    gains = [work.languages * size for size in sizes]
    on_disk = sum(size for size in gains if size >= LARGE)

    batches, of_language = evaluated(config, work), measured(config, work)
    # Groups of devices share the rows of an evaluation's batch, padded to be shared equally.
    share = math.ceil(batches.rows / data)
    evaluating = working_evaluation(shapes, config, mesh, share * here, batches.inputs)
    forward = FORWARD * batches.count * multiplied(config, share, batches.inputs) / split
    # A language's statistics are shared batch by batch.
    backward = (FORWARD + BACKWARD) / split * work.languages
    backward *= sum(
        math.ceil(of.count / data) * multiplied(config, of.rows, of.inputs) for of in of_language
    )
    largest = of_language[0]
    steps = (
        Step(
            name="evaluate",
            weights=weights,
            working=evaluating,
            passes=1,
            operations=forward,
        ),
        Step(
            name="statistics",
            weights=weights + _sums(config, mesh) * weights,
            working=working_statistics(shapes, config, mesh, largest.rows, largest.inputs),
            passes=1,
            operations=backward,
            backward=True,
        ),
        Step(
            name="choose",
            # Weights, mask, one language's squares; rounding errors and what scales can fall by.
            weights=2 * weights + flags + 2 * held(eligible),
            working=0,
            passes=0,
            operations=0.0,
            # What scales can fall by, once more, and gains that are not on disk.
            host=sum(sizes) + sum(gains) - on_disk,
        ),
        Step(
            name="quantize",
            weights=2 * weights + flags,
            working=working_quantization(shapes, config, spec),
            passes=0,
            operations=0.0,
        ),
        Step(
            name="evaluate quantized",
            weights=2 * weights + flags,
            working=evaluating,
            passes=work.variants,
            operations=forward * work.variants,
        ),
    )
    parameters = sum(math.prod(of.shape) for of in leaves.values())
    return Plan(
        mesh=MeshShape(data=data, model=split),
        parameters=parameters,
        steps=steps,
        statistics_bytes=4 * SUMS * parameters * work.languages,
        gains_bytes=on_disk,
    )


def _check(work: Work, config: ModelConfig) -> None:
    for name, amount in asdict(work).items():
        if amount < 1:
            raise InputError(f"`{name}` is {amount}; it must be at least 1")
    if work.length > config.context:
        raise InputError(
            f"`length` is {work.length}; the model's context allows 1 to {config.context}"
        )


def _sums(config: ModelConfig, mesh: Mesh | None) -> int:
    """Trees of the size of the weights that statistics hold beside them."""
    if config.masked:
        return SUMS + 2  # and the gradients of a sentence and of some of its copies
    # On a mesh the sums of a batch are added within its program: they are its working bytes.
    return 2 * SUMS if mesh is None else SUMS


def multiplied(config: ModelConfig, rows: int, inputs: int) -> int:
    """Products of a weight and a number in a forward pass over some rows.

    Args:
        config: the architecture.
        rows: how many.
        inputs: that the model reads of each.

    Returns:
        How many there are: of every input and every matrix but what is only looked up; of a
        masked model's head, for the masked token of each row alone.
    """
    head = {"embed/tokens", "head/transform/kernel"} if config.tied_head else {"head/kernel"}
    looked_up = {"embed/tokens", "embed/positions", "embed/types"} - head
    total = 0
    for path, leaf in leaf_paths(parameter_shapes(config)).items():
        if is_matrix(path) and path not in looked_up:
            alone = config.masked and path in head
            total += math.prod(leaf.shape) * rows * (1 if alone else inputs)
    return total
