"""How much memory is left: of a device, or of the host and the job's share of it."""

from pathlib import Path

import jax

_GROUPS = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of control groups, version 2 and 1: the limit, what is used, and the cache in that."""


def free_bytes(device: jax.Device) -> int | None:
    """Bytes that can still be taken.

    Args:
        device: where; a CPU's memory is that of the host, within the limits of its containers.

    Returns:
        The bytes; None where nobody says.
    """
    return _device_bytes(device.platform, device.memory_stats() or {})


def _device_bytes(platform: str, stats: dict[str, int]) -> int | None:
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return _host_bytes(Path("/proc"), _GROUPS) if platform == "cpu" else None


def _host_bytes(proc: Path, groups: Path) -> int | None:
    """What Linux says is available; the least of the machine's and of every group's above us."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        own = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for line in own:
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = groups / controllers
        folder = root / group.lstrip("/")
        while folder.is_relative_to(root):
            found += _left_in(folder)
            folder = folder.parent
    return min(found, default=None)


def _left_in(folder: Path) -> list[int]:
    """What a control group has left; nothing where it has no limit."""
    for limit, usage, cache in _FILES:
        try:
            most, used = (int((folder / name).read_text()) for name in (limit, usage))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # other files, or `max`: no limit
            continue
        return [most - used + int(stat.get(cache, 0))]
    return []
