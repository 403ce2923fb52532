"""A plan as a table for the terminal."""

from collections.abc import Sequence
from typing import Any

from jaxprotect.runs.plan import Plan, Rates
from jaxprotect.runs.tables import console, table

MIB, GIB = 2**20, 2**30


def print_plan(
    made: Plan,
    rows: Sequence[dict[str, Any]],
    rates: Rates,
    *,
    measured: bool,
    memory: float | None,
) -> None:
    """Print what each step needs on a device, what needs most, and whether that fits.

    Args:
        made: the plan.
        rows: its rows, see `Plan.rows`.
        rates: that their seconds are for.
        measured: the rates were measured on this machine.
        memory: bytes of a device; None if that is not known.
    """
    on = f"on each of {made.devices} devices ({made.mesh})" if made.devices > 1 else "on one device"
    shown = table(
        f"{made.parameters:,} parameters; MiB {on}",
        ["step"],
        ["weights", "working", "in all", "on the host", "passes", "seconds"],
    )
    for row in rows:
        sizes = [f"{row[key] / MIB:,.0f}" for key in ("weights", "working", "bytes")]
        timed = [f"{row['passes']:,}", f"{row['seconds']:,.0f}"] if row["passes"] else ["", ""]
        host = f"{row['host'] / MIB:,.0f}" if row["host"] else ""
        shown.add_row(row["name"], *sizes, host, *timed)
    peak, seconds = made.peak, sum(row["seconds"] for row in rows)
    out = console()
    out.print(shown)
    most = f"{peak.name}, {peak.bytes / GIB:,.2f} GiB on a device"
    out.print(f"most memory: {most}{_fits(peak.bytes, memory)}")
    gains = f", and {made.gains_bytes / GIB:,.1f} GiB while a set is chosen"
    out.print(
        f"on disk: {made.statistics_bytes / GIB:,.1f} GiB of statistics"
        f"{gains if made.gains_bytes else ''}"
    )
    how = "as measured here" if measured else "as given"
    pace = " and ".join(
        f"{rate / 1e12:.3g}" for rate in dict.fromkeys((rates.forward, rates.backward))
    )
    out.print(f"time: about {duration(seconds)} at {pace} TFLOP/s a device, {how}")


def _fits(needed: int, memory: float | None) -> str:
    if memory is None:
        return ""
    if needed <= memory:
        return f": fits into {memory / GIB:,.4g} GiB"
    return (
        f": does not fit into {memory / GIB:,.4g} GiB; more devices along `model` share the weights"
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(42.4), duration(600), duration(9000), duration(10**6)
    ('42 s', '10 min', '2.5 h', '11.6 days')
    """
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.0f} s"
