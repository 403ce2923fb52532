"""What a command computes on, in one line that a log begins with."""

import jax
from jax.sharding import Mesh

from jaxprotect import hosts
from jaxprotect.free_memory import device_bytes
from jaxprotect.models.mesh_shapes import DATA, MODEL, MeshShape
from jaxprotect.progress import tell
from jaxprotect.runs.results import versions


def banner(mesh: MeshShape | None) -> str:
    """Versions, devices, hosts, memory and mesh, as far as they are known.

    Args:
        mesh: where the weights lie; None for one device.

    Returns:
        Such as `jaxprotect 0.1.0 · jax 0.10.2 · 8 x TPU v5 on 2 hosts, 95.7 GiB each · mesh
        data=4,model=2`; of `1 of 8 x ...` the others are idle.
    """
    found, there = versions(), jax.devices()
    parts = [f"{name} {found[name]}" for name in ("jaxprotect", "jax") if name in found]
    used = 1 if mesh is None else mesh.data * mesh.model
    count = f"{used}" if used == len(there) else f"{used} of {len(there)}"
    first = there[0]
    devices = f"{count} x {'CPU' if first.platform == 'cpu' else first.device_kind}"
    if hosts.several():
        devices += f" on {hosts.count()} hosts"
    if (memory := device_bytes()) is not None:
        devices += f", {memory / 2**30:.3g} GiB" + (" each" if len(there) > 1 else "")
    return " · ".join([*parts, devices, *([] if mesh is None else [f"mesh {mesh}"])])


def print_banner(mesh: Mesh | None) -> None:
    """Print it on standard error, on the first host alone.

    Args:
        mesh: where the weights lie; None for one device.
    """
    axes = None if mesh is None else mesh.shape
    shape = None if axes is None else MeshShape(data=axes[DATA], model=axes[MODEL])
    tell(banner(shape))
