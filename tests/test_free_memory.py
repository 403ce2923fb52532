"""How much memory is left is the least that anybody allows."""

import jax
import pytest

from jaxprotect import free_memory


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    """A host with 1,000 KiB available, and a job in a group of it."""
    write(tmp_path / "proc/meminfo", "MemTotal: 4000 kB\nMemAvailable:    1000 kB\n")
    write(tmp_path / "proc/self/cgroup", "3:cpu:/other\n2:memory:/old/job\n0::/new/job\n")
    return tmp_path


def free(machine):
    return free_memory._host_bytes(machine / "proc", machine / "groups")


def test_without_limits_it_is_the_hosts(machine):
    write(machine / "groups/new/job/memory.max", "max\n")
    write(machine / "groups/new/job/memory.current", "5\n")
    assert free(machine) == 1000 * 1024


@pytest.mark.parametrize(
    ("group", "limit", "usage", "cache"),
    [
        ("new/job", "memory.max", "memory.current", "inactive_file"),
        ("new", "memory.max", "memory.current", "inactive_file"),  # of the one around it
        ("memory/old", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_a_group_leaves_its_limit_without_what_is_used_and_no_cache(
    machine, group, limit, usage, cache
):
    write(machine / "groups" / group / limit, "5000\n")
    write(machine / "groups" / group / usage, "3000\n")
    write(machine / "groups" / group / "memory.stat", f"anon 1\n{cache} 400\n")
    assert free(machine) == 2400


def test_a_host_that_does_not_say(tmp_path):
    assert free(tmp_path) is None


def test_a_device_says_it_itself():
    stats = {"bytes_limit": 100, "bytes_in_use": 30}
    assert free_memory._device_bytes("gpu", stats) == 70
    assert free_memory._device_bytes("gpu", {}) is None
    assert (free_memory.free_bytes(jax.devices("cpu")[0]) or 2**30) > 2**20
