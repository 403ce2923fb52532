"""Tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxprotect.evaluation.damage import Disparity
from jaxprotect.models.census import Census

WIDTH = 130
"""Columns of a table where there is no terminal."""


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        raise  # for `jaxprotect.endings`; rich would exit with code 1


def console() -> Console:
    """A console as wide as the terminal, or `WIDTH` columns wide where there is none."""
    found = _Screen()
    return found if found.is_terminal else _Screen(width=WIDTH)


def table(title: str, left: list[str], right: list[str]) -> Table:
    """An empty table of text columns and right-aligned number columns."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in left:
        made.add_column(heading, no_wrap=True)
    for heading in right:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def interval(row: dict[str, Any], key: str, factor: float = 1.0, digits: int = 2) -> str:
    """`value [low, high]` of a row's estimate, `undefined` without a value."""
    value, low, high = (row[f"{key}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "undefined"
    if low is None:
        return f"{factor * value:.{digits}f}"
    return f"{factor * value:.{digits}f} [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"


def print_census(census: Census, *, layers: bool) -> None:
    """Print a census: model and components, and with `layers` every block."""
    made = table(f"{census.name}: parameters", ["part"], ["weights", "biases", "total", "share"])
    for row in census.rows():
        if row["head"] is not None or (row["layer"] is not None and not layers):
            continue
        part = row["part"] if row["layer"] is None else f"layer {row['layer']} {row['part']}"
        counts = [f"{row[key]:,}" for key in ("weights", "biases", "total")]
        made.add_row(str(part), *counts, f"{100 * float(row['share'] or 0):.3f} %")
    head = census.attention_head
    made.add_row("one attention head", f"{head.weights:,}", f"{head.biases:,}", f"{head.total:,}")
    console().print(made)
    eligible = ", ".join(f"{policy} {count:,}" for policy, count in census.eligible.items())
    console().print(f"eligible weights by policy: {eligible}", highlight=False)


def print_brief(rows: list[dict[str, Any]]) -> None:
    """Print the study's counts of GPT-2 beside the exact ones."""
    made = table("GPT-2 as the study counted it", ["quantity"], ["study", "exact", "difference"])
    made.add_column("why")
    for row in rows:
        counts = [f"{row[key]:,}" for key in ("brief", "exact", "difference")]
        made.add_row(row["quantity"], *counts, row["why"])
    console().print(made)


def print_evaluation(rows: list[dict[str, Any]]) -> None:
    """Print the rows of `language_rates`."""
    made = table(
        f"{rows[0]['sentences']} sentences, 95 % intervals over sentences",
        ["language"],
        ["nats/sentence", "bits/byte", "bits/character", "tokens/byte"],
    )
    for row in rows:
        made.add_row(
            row["language"],
            interval(row, "nats", digits=1),
            interval(row, "bits_per_byte", digits=3),
            f"{row['bits_per_character']:.3f}",
            f"{row['tokens_per_byte']:.3f}",
        )
    console().print(made)


def print_damages(result: Disparity, title: str) -> None:
    """Print what a variant costs every language, the worst first, and the disparity."""
    made = table(title, ["language"], ["damage, % of nats", "nats/sentence", "bits/byte", "was"])
    for row in sorted(result.rows(), key=lambda row: -float(row["relative"] or 0)):
        mark = " destroyed" if row["destroyed"] else ""
        made.add_row(
            f"{row['language']}{mark}",
            interval(row, "relative", 100),
            interval(row, "damage"),
            f"{row['bits_per_byte_quantized']:.3f}",
            f"{row['bits_per_byte_original']:.3f}",
        )
    screen, summary = console(), result.summary()
    screen.print(made)
    reason = f" ({result.ratio.reason})" if result.ratio.value is None else ""
    against = ", ".join(result.reference)
    screen.print(
        f"disparity (worst / mean of {against}): {interval(summary, 'ratio')}{reason}",
        highlight=False,
        markup=False,
    )


def print_sensitivity(rows: Sequence[dict[str, Any]], chance: float, folder: str) -> None:
    """Print where each language's own weights are, and whose they share.

    Args:
        rows: of a `SensitivityMap`, one per language.
        chance: the share that random sets share.
        folder: where the map lies.
    """
    title = f"each language's own {100 * chance:g} % of the weights"
    made = table(title, ["language"], ["sentences", "nats/sentence", "prefers", "shares most with"])
    for row in rows:
        layer = "" if row["top_layer"] is None else f"layer {row['top_layer']} "
        part = f"{layer}{row['top_component'].replace('_', ' ')}"
        with_whom = "" if row["closest"] is None else row["closest"]
        share = "" if row["closest"] is None else f" ({100 * row['closest_share']:.0f} %)"
        made.add_row(
            row["language"],
            f"{row['sentences']:,}",
            f"{row['nats'] / row['sentences']:.1f}",
            f"{part} ({row['top_lift']:.1f} x its size)",
            f"{with_whom}{share}",
        )
    console().print(made)
    said = f"random sets share {100 * chance:g} %; statistics, tables and figures: {folder}"
    console().print(said, highlight=False)


def print_packed(found: dict[str, Any]) -> None:
    """Print the bytes of a packed model by part, and those of its file.

    Args:
        found: `{folder, quantizer, predicted, written, arrays, float16, bits_per_weight, parts}`,
            all but the last three texts and bytes; parts as `ModelSize.rows`.
    """
    numbers = ["weights", "protected", "codes", "scales", "values", "index", "other", "total"]
    made = table(f"{found['quantizer']}: bytes by part", ["part"], numbers)
    for row in found["parts"]:
        made.add_row(row["part"].replace("_", " "), *(f"{row[key]:,}" for key in numbers))
    console().print(made)
    console().print(
        f"model.safetensors: {found['written']:,} bytes, predicted {found['predicted']:,} "
        f"({found['arrays']:,} in arrays, the rest its header)\n"
        f"float16: {found['float16']:,} bytes, {found['float16'] / found['written']:.2f} times as "
        f"many; {found['bits_per_weight']:.3f} bits per eligible weight\n"
        f"folder: {found['folder']}",
        highlight=False,
        markup=False,
    )


def print_minimal_set(summary: dict[str, Any], curve: list[dict[str, Any]], folder: str) -> None:
    """Print a search: its curve on tune, what was found, and what test says.

    Args:
        summary: of a `MinimalSet`.
        curve: its sizes.
        folder: where it lies.
    """
    numbers = ["weights", "share", "KiB more", "worst damage, %", "language", "met"]
    title = f"{summary['quantizer']}; {summary['criterion']}; {summary['target']}"
    made = table(f"{title}: sizes tried on tune", [], numbers)
    for row in curve:
        made.add_row(
            f"{row['protected']:,}",
            f"{100 * row['fraction']:.3f} %",
            f"{row['overhead_bytes'] / 1024:.1f}",
            f"{100 * row['worst_relative']:.2f}",
            row["worst_language"],
            "yes" if row["met"] else "no",
        )
    console().print(made)
    console().print(_found(summary), highlight=False)
    worst = interval(summary, "test_worst_relative", 100)
    console().print(
        f"on test: worst damage {worst} % ({summary['test_worst_language']}), unprotected "
        f"{100 * summary['test_unprotected_worst_relative']:.2f} %; disparity "
        f"{interval(summary, 'test_ratio')}; target "
        + ("met with confidence" if summary["test_met"] else "not met with confidence"),
        highlight=False,
    )
    console().print(f"curve, damages and mask: {folder}", highlight=False)


def _found(summary: dict[str, Any]) -> str:
    if summary["found"] is None:
        return (
            f"the target was not reached; closest: {summary['closest']:,} weights, "
            f"{100 * summary['closest_excess']:.2f} % of the original nats short"
        )
    if summary["found"] == 0:
        return "nothing to protect: plain quantization meets the target"
    bound = summary["lower_bound"]
    said = "" if bound is None else f"; no set below {bound:,.0f} can, says the surrogate"
    return (
        f"enough: {summary['found']:,} weights, {100 * summary['fraction']:.3f} %, "
        f"{summary['overhead_bytes']:,} bytes more{said}"
    )
