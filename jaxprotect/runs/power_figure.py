"""A figure of power: how many sentences tell a damage of some size from none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.runs.criteria_figures import LOOKS, save
from jaxprotect.runs.drawing import Drawing, mark_plainly, new_figure, style


def power_figure(path: Path, rows: Sequence[Mapping[str, Any]], *, power: float = 0.8) -> Drawing:
    """Power over the number of sentences, a colour per damage: points beside the planned line.

    Args:
        path: the PNG file to write.
        rows: `damage`, `sentences`, `told` (simulated power), `planned` (by `power_curve`).
        power: where to draw a thin line.

    Returns:
        The drawing.

    Raises:
        InputError: no rows, or more damages than colours.
    """
    if not rows:
        raise InputError("`rows` is empty; at least one is needed")
    damages = sorted({row["damage"] for row in rows}, reverse=True)
    if len(damages) > len(LOOKS):
        raise InputError(f"`rows` has {len(damages)} damages; {len(LOOKS)} can differ")
    counts = sorted({row["sentences"] for row in rows})
    with style():
        figure = new_figure(8, 4.5, "How many sentences tell a damage from none?")
        axes = figure.subplots()
        axes.axhline(100 * power, color="#888888", linewidth=0.8, zorder=1)
        for (colour, marker), damage in zip(LOOKS, damages, strict=False):
            here = sorted(
                (row["sentences"], 100 * row["told"], 100 * row["planned"])
                for row in rows
                if row["damage"] == damage
            )
            x, told, planned = zip(*here, strict=True)
            axes.plot(x, planned, color=colour, linewidth=1.4)
            axes.plot(
                x, told, color=colour, marker=marker, linestyle="", label=f"{100 * damage:g} %"
            )
        axes.set_xscale("log")
        mark_plainly(axes.xaxis, counts[::2] if len(counts) > 8 else counts)
        axes.set_ylim(0, 103)
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_xlabel("parallel sentences (log)")
        axes.set_ylabel("told from none, % of samples")
        figure.legend(
            loc="outside right upper", title="true damage\n(line: planned,\npoint: found)"
        )
        reached = [
            f"{100 * damage:g} % by {min(told)} sentences"
            for damage in damages
            if (told := [r["sentences"] for r in _of(rows, damage) if r["told"] >= power])
        ]
        alt = (
            f"Share of samples whose interval lies above 0, by number of sentences, for "
            f"{len(damages)} damages. {100 * power:g} % are reached of a damage of "
            f"{', '.join(reached) or 'none'}."
        )
        caption = "Points: simulated texts of known damage. Lines: planned by `power_curve`."
        return save(path, figure, "How many sentences tell a damage from none?", alt, caption)


def _of(rows: Sequence[Mapping[str, Any]], damage: float) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["damage"] == damage]
