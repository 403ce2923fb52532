"""`jaxprotect plan`."""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from jaxprotect.commands.options import ModelOptions, Switch, group, print_json
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what a search needs in bytes and seconds, before anything is loaded.

    Programs are compiled for arrays that do not exist; the devices need not be there either.
    Only the configuration is read: a folder with `config.json` alone is enough.

    Examples:
        jaxprotect plan --model gpt2
        jaxprotect plan --model mistralai/Mistral-7B-v0.1 --mesh data=1,model=8 --memory 80

    Args:
        source: whose configuration to plan for; weights are not read.
        mesh: devices: `model` of them share one copy of the weights, `data` copies work on
            different sentences.
        spec: the quantizer.
        length: tokens of a sentence.
        tokens: of the texts, all languages together.
        languages: how many there are.
        variants: quantized models to measure.
        batch_tokens: most tokens of one batch; statistics have at most 1024.
        memory: GiB of one device, to be told whether the work fits.
        rate: 10^12 floating-point operations of one device per second.
        json: print one JSON document.
    """

    source: Annotated[ModelOptions, group("model")] = ModelOptions()
    mesh: Annotated[str, tyro.conf.arg(metavar="data=N,model=M")] = "data=1,model=1"
    spec: Annotated[QuantSpec, group("quantizer")] = QuantSpec()
    length: int = 64
    tokens: int = 100_000
    languages: int = 10
    variants: int = 10
    batch_tokens: int = 4096
    memory: Annotated[
        float | None,
        tyro.conf.arg(metavar="GIB", help_behavior_hint="(default: this machine's device)"),
    ] = None
    rate: Annotated[
        float | None, tyro.conf.arg(metavar="TFLOPS", help_behavior_hint="(default: measured here)")
    ] = None
    json: Switch = False

    def run(self) -> None:
        """Compile, count, print."""
        from jaxprotect.errors import InputError
        from jaxprotect.free_memory import device_bytes
        from jaxprotect.models.census import census_of
        from jaxprotect.models.mesh_shapes import check_mesh, parse_mesh
        from jaxprotect.models.meshes import mesh_for
        from jaxprotect.runs.plan import Rates, plan
        from jaxprotect.runs.plan_batches import Work, evaluated, measured
        from jaxprotect.runs.plan_programs import stand_ins
        from jaxprotect.runs.plan_rates import measured_rates
        from jaxprotect.runs.plan_table import GIB, print_plan

        for name in ("memory", "rate"):
            given = getattr(self, name)
            if given is not None and not 0 < given < float("inf"):
                raise InputError(f"`{name}` is {given}; it must be above 0")
        config = census_of(self.source.model, revision=self.source.revision).config
        shape = parse_mesh(self.mesh)
        check_mesh(shape, config, shape.data * shape.model)
        compiled = replace(shape, data=min(shape.data, 2))
        devices = compiled.data * compiled.model
        mesh = mesh_for(config, compiled, stand_ins(devices)) if devices > 1 else None
        work = Work(
            length=self.length,
            tokens=self.tokens,
            languages=self.languages,
            variants=self.variants,
            batch_tokens=self.batch_tokens,
        )
        made = plan(config, mesh, work=work, spec=self.spec, groups=shape.data)
        rates = (
            measured_rates(evaluated(config, work), measured(config, work)[0])
            if self.rate is None
            else Rates(forward=1e12 * self.rate, backward=1e12 * self.rate)
        )
        memory = device_bytes() if self.memory is None else self.memory * GIB
        rows = made.rows(rates)
        if self.json:
            print_json(
                {
                    "mesh": {"data": made.mesh.data, "model": made.mesh.model},
                    "parameters": made.parameters,
                    "operations_per_second": {"forward": rates.forward, "backward": rates.backward},
                    "bytes": made.peak.bytes,
                    "memory": memory,
                    "statistics_bytes": made.statistics_bytes,
                    "gains_bytes": made.gains_bytes,
                    "seconds": sum(row["seconds"] for row in rows),
                    "steps": rows,
                }
            )
        else:
            print_plan(made, rows, rates, measured=self.rate is None, memory=memory)
