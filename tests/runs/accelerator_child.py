"""`jaxprotect plan` on a machine whose default device is not one of the processor's.

    python -m tests.runs.accelerator_child MODEL

The accelerator is one more client of the processor, under a name of its own. Prints JSON: whether
rates are measured on it; of every program for how many devices it is compiled, and whether it is
among them.
"""

import json
import sys
from typing import Any

import jax
import jaxlib.xla_client
from jax._src import xla_bridge

from jaxprotect.commands import plan as command
from jaxprotect.commands.options import ModelOptions
from jaxprotect.runs import plan, plan_programs, plan_rates

ACCELERATOR = "accelerator"

if __name__ == "__main__":
    jax.config.update("jax_platforms", ACCELERATOR)  # as where JAX_PLATFORMS is cuda
    xla_bridge.register_backend_factory(
        ACCELERATOR, lambda: jaxlib.xla_client.make_cpu_client(num_devices=1), priority=1000
    )
    answer: dict[str, Any] = {"compiled": []}
    temporary = plan_programs._temporary

    def is_accelerator(device: jax.Device) -> bool:
        return device.client is xla_bridge.backends()[ACCELERATOR]

    def measured_rates(*_: object) -> plan.Rates:
        answer["measured"] = is_accelerator(jax.numpy.ones(1).device)
        return plan.Rates(forward=1e9, backward=1e9)

    def working(lowered: Any) -> int:
        shardings = jax.tree.leaves(lowered.compile().output_shardings)
        devices = {device for sharding in shardings for device in sharding.device_set}
        answer["compiled"].append([len(devices), any(map(is_accelerator, devices))])
        return temporary(lowered)

    plan_rates.measured_rates = measured_rates
    plan_programs._temporary = working
    command.print_json = lambda _: None
    model = ModelOptions(model=sys.argv[1])
    command.Plan(source=model, mesh="data=2,model=2", length=8, json=True).run()
    sys.stdout.write(json.dumps(answer))
