"""How many bytes the language-guided set needs, over those of another criterion, for one target."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxprotect.evaluation.bootstrap import expanded_share
from jaxprotect.runs.results import ORIGINAL, Run, read_run
from jaxprotect.runs.tables import console, table
from jaxprotect.selection.byte_budget import bytes_to_reach
from jaxprotect.selection.criteria import GUIDED
from jaxprotect.selection.minimal import point_name
from jaxprotect.selection.targets import Target, excess_samples


def byte_ratios(
    folders: dict[str, Path],
    target: Target,
    *,
    reference: Sequence[str] | None = None,
    draws: int = 10_000,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """The bytes from which on each curve meets a target, guided over other, with an interval.

    In each bootstrap draw over the tune sentences, the same for all criteria, a curve's bytes are
    where its worst excess falls to 0 for the last time.

    Args:
        folders: criterion -> its search; `language_guided` among them.
        target: what both must meet, on average over the sentences of a draw.
        reference: reference languages.
        draws: bootstrap draws.
        level: of the expanded percentile interval.

    Returns:
        One row per other criterion: `bytes_guided`, `bytes_other` (None where its largest set
        does not meet the target), `ratio` with its interval (0: never met).
    """
    runs = {criterion: read_run(folder / "tune") for criterion, folder in folders.items()}
    needed = {
        criterion: _bytes_needed(run, target, reference, draws) for criterion, run in runs.items()
    }
    tail = expanded_share((1 - level) / 2, len(runs[GUIDED].manifest["texts"]["ids"]))
    guided = needed.pop(GUIDED)
    rows = []
    for criterion, other in needed.items():
        ratios = guided / other  # infinite bytes: 0
        low, high = np.quantile(ratios[1:], (tail, 1 - tail), method="closest_observation")
        rows.append(
            {
                "criterion": criterion,
                "bytes_guided": float(guided[0]) if np.isfinite(guided[0]) else None,
                "bytes_other": float(other[0]) if np.isfinite(other[0]) else None,
                "ratio": float(ratios[0]) if np.isfinite(ratios[0]) else None,
                "ratio_low": float(low) if np.isfinite(low) else None,
                "ratio_high": float(high) if np.isfinite(high) else None,
            }
        )
    return rows


def _bytes_needed(
    run: Run, target: Target, reference: Sequence[str] | None, draws: int
) -> Float[np.ndarray, "draws1"]:
    """The bytes on all sentences, then in each draw; infinite where no size is enough."""
    base, plain = run.evaluation(ORIGINAL), run.evaluation(point_name(0))
    # Pruned sets are steps down from one set, not points of the curve.
    sets = {r["overhead_bytes"]: r["variant"] for r in run.rows if "-of-" not in r["variant"]}
    worst = []
    for overhead in sorted(sets):
        value, samples = excess_samples(
            target, base, plain, run.evaluation(sets[overhead]), reference=reference, draws=draws
        )
        worst.append(np.append(value.max(), samples.max(axis=1)))
    overheads = [float(overhead) for overhead in sorted(sets)]
    found = [bytes_to_reach(overheads, list(map(float, of)), 0.0) for of in np.array(worst).T]
    return np.array([np.inf if bytes_ is None else bytes_ for bytes_ in found])


def print_byte_ratios(rows: Sequence[dict[str, Any]], target: str) -> None:
    """Print the guided set's bytes over each other criterion's.

    Args:
        rows: of `byte_ratios`, with the `quantizer`.
        target: what was asked.
    """
    numbers = ["guided, KiB", "other, KiB", "guided / other"]
    made = table(f"bytes for the same target: {target}", ["quantizer", "against"], numbers)
    for row in rows:
        made.add_row(row["quantizer"], row["criterion"], *ratio_cells(row))
    console().print(made)


def ratio_cells(row: dict[str, Any]) -> tuple[str, str, str]:
    """Guided bytes, other bytes and their ratio as text."""
    guided, other = (
        "not reached" if row[key] is None else f"{row[key] / 1024:.1f}"
        for key in ("bytes_guided", "bytes_other")
    )
    if row["ratio"] is None or row["ratio_high"] is None:
        return guided, other, "undefined"
    return guided, other, f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
