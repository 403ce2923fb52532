"""Exp-019's table: one row per variant, its means over languages, its paired difference."""

from typing import Any

from jaxprotect.evaluation.disparity import compare
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.tables import console, interval, table


def tabulate(opened: Run, summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant: the summary, the means over languages, the paired difference.

    Args:
        opened: the finished run.
        summary: of `write_summary`.

    Returns:
        Rows of plain data; `same_prefix_relative` is the mean relative damage (negative: gain) of
        the original weights with the same prefix.
    """
    base, draws = opened.evaluation(ORIGINAL), opened.manifest["config"]["draws"]
    of_variant: dict[str, list[dict[str, Any]]] = {}
    for row in opened.rows:
        of_variant.setdefault(row["variant"], []).append(row)

    def mean(name: str, key: str) -> float | None:
        values = [row[key] for row in of_variant.get(name, []) if row[key] is not None]
        return sum(values) / len(values) if values else None

    rows = []
    for row in summary:
        name = row["variant"]
        first = of_variant[name][0]
        made = row | {key: first[key] for key in ("weights", "kind", "positions", "tokens")}
        made["mean_relative"] = mean(name, "relative")
        for key in ("recovered_share", "net_share", "nats_per_byte", "net_nats_per_byte"):
            made[f"mean_{key}"] = mean(name, key)
        adapted = f"{ORIGINAL}--learned-{first['positions']}"
        same = adapted if first["kind"] == "adapted" else f"{name}--{ORIGINAL}"
        made["same_prefix_relative"] = mean(same, "relative")
        difference = {"worst_difference": None} | dict.fromkeys(
            ("worst_difference_low", "worst_difference_high")
        )
        if first["kind"] != "plain" and first["weights"] != ORIGINAL:
            plain = opened.evaluation(first["weights"])
            found = compare(base, plain, opened.evaluation(name), draws=draws)
            difference = found.worst_relative.to_row("worst_difference")
        rows.append(made | difference)
    return rows


def print_prefixes(rows: list[dict[str, Any]]) -> None:
    """Print one line per variant.

    Args:
        rows: of `tabulate`.
    """
    numbers = ["KiB", "worst, %", "mean, %", "disparity", "undone, %", "net, %", "original, %"]
    made = table(f"exp_019: {rows[0]['sentences']} test sentences", ["variant"], numbers)

    def share(row: dict[str, Any], key: str) -> str:
        return "" if row[key] is None else f"{100 * row[key]:.2f}"

    for row in rows:
        made.add_row(
            row["variant"],
            f"{row['overhead_bytes'] / 1024:.1f}",
            interval(row, "worst_relative", 100),
            share(row, "mean_relative"),
            interval(row, "ratio"),
            share(row, "mean_recovered_share"),
            share(row, "mean_net_share"),
            share(row, "same_prefix_relative"),
        )
    console().print(made)
