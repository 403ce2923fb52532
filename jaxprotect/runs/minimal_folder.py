"""A finished search for a minimal set, read back from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.models.json_files import read_json
from jaxprotect.runs.comparisons import Group, grouped
from jaxprotect.runs.csv_files import Kinds, read_csv
from jaxprotect.runs.results import Run, read_run
from jaxprotect.runs.run_checks import require
from jaxprotect.runs.summary import summarise
from jaxprotect.selection.minimal import point_name

Row = Mapping[str, Any]

NUMBER = (float, int)
MAYBE = (float, int, NoneType)


def _interval(name: str) -> Kinds:
    return {name: NUMBER, f"{name}_low": MAYBE, f"{name}_high": MAYBE}


SUMMARY: Kinds = {
    **dict.fromkeys(("target", "criterion", "quantizer"), (str,)),
    **dict.fromkeys(("eligible", "closest", "bytes", "overhead_bytes"), (int,)),
    **dict.fromkeys(("found", "pruned_from"), (int, NoneType)),
    **dict.fromkeys(("fraction", "lower_bound"), MAYBE),
    **dict.fromkeys(("closest_excess", "test_upper_excess", "test_level"), NUMBER),
    **dict.fromkeys(("test_met", "test_met_on_average"), (bool,)),
    **dict.fromkeys(("test_sentences", "test_draws"), (int,)),
    **dict.fromkeys(("test_ratio", "test_ratio_low", "test_ratio_high"), MAYBE),
    **dict.fromkeys(("test_worst_language", "test_worst_absolute_language"), (str,)),
    **dict.fromkeys(("test_tightest_language", "test_unprotected_worst_language"), (str,)),
    **dict.fromkeys(("test_reference_languages", "test_destroyed_languages"), (str,)),
    "test_ratio_reason": (str,),
    **_interval("test_worst_relative"),
    **_interval("test_worst_damage"),
    **_interval("test_reference_relative"),
    **_interval("test_unprotected_worst_relative"),
}
CURVE: Kinds = {
    **dict.fromkeys(("protected", "overhead_bytes"), (int,)),
    "pruned_from": (int, NoneType),
    **dict.fromkeys(("fraction", "upper_excess"), (float,)),
    "tightest_language": (str,),
    "met": (bool,),
}
DAMAGES: Kinds = {
    "language": (str,),
    **dict.fromkeys(("bits_per_byte_original", "bits_per_byte_quantized"), (float,)),
    **dict.fromkeys(("nats_original", "nats_quantized"), (float,)),
    "destroyed": (bool,),
    **{
        name: (float, NoneType) if name.endswith(("low", "high", "upper")) else (float,)
        for of in ("relative", "damage", "unprotected", "removed")
        for name in (of, f"{of}_low", f"{of}_high")
    },
    "relative_upper": (float, NoneType),
}
LOCATION: Kinds = {
    "layer": (int, NoneType),
    "component": (str,),
    **dict.fromkeys(("protected", "eligible"), (int,)),
    **dict.fromkeys(("share", "lift"), (float,)),
}


@dataclass(frozen=True, kw_only=True)
class MinimalFolder:
    """A search, finished.

    Args:
        folder: where it lies.
        summary: target, what was found, the verdict on test.
        curve: every set tried on tune, by size.
        damages: every language on test.
        location: where in the model the set lies; empty if it protects nothing.
        group: the same sets as variants of the run on tune.
        variants: the variant of each row of the curve.
    """

    folder: Path
    summary: Row
    curve: Sequence[Row]
    damages: Sequence[Row]
    location: Sequence[Row]
    group: Group
    variants: Sequence[str]

    @property
    def names(self) -> dict[str, str]:
        """Language -> name to show."""
        return self.group.names

    @property
    def run(self) -> Run:
        """The run on tune."""
        return self.group.run

    @property
    def level(self) -> str:
        """Confidence of the verdicts and the intervals on test, in percent."""
        return f"{100 * self.summary['test_level']:g} %"

    @property
    def kept(self) -> int:
        """Weights of the set that was measured on test: the one found, or else the closest."""
        found = self.summary["found"]
        return self.summary["closest"] if found is None else found


def read_minimal(folder: Path) -> MinimalFolder:
    """The search that lies in a folder.

    Args:
        folder: the `out` of `find_minimal_set`.

    Returns:
        The search.

    Raises:
        InputError: it is not finished, or a file is missing, damaged or of another search.
    """
    path = folder / "summary.json"
    if not path.exists():
        raise InputError(
            f"{folder} is a search for a minimal set that is not finished; "
            "the same `jaxprotect minimal-set` continues it"
        )
    summary = read_json(path)
    if missing := [name for name in SUMMARY if name not in summary]:
        raise InputError(
            f"`{path}` lacks {missing[0]}: it is damaged or of an older version; "
            "the same `jaxprotect minimal-set` writes it again"
        )
    require(summary, SUMMARY, f"`{path}`")
    curve = read_csv(folder / "curve.csv", CURVE)
    damages = read_csv(folder / "damages.csv", DAMAGES)
    kept = summary["closest"] if summary["found"] is None else summary["found"]
    location = read_csv(folder / "location.csv", LOCATION) if kept else []
    whole = read_run(folder / "tune")
    variants = [point_name(row["protected"], row["pruned_from"]) for row in curve]
    if missing := [name for name in variants if name not in whole.variants]:
        raise InputError(f"`{folder / 'tune'}` lacks {missing[0]}, which curve.csv has")
    run = Run(
        folder=whole.folder,
        manifest=whole.manifest,
        rows=tuple(row for row in whole.rows if row["variant"] in variants),
    )
    groups = grouped(run, summarise(run))
    group = groups[0]
    if len(groups) > 1 or group.plain is None or len(set(variants)) < len(variants):
        raise InputError(f"`{folder / 'tune'}` is no search with one quantizer and an empty set")
    _check_languages(folder, list(group.names), summary, curve, damages)
    return MinimalFolder(
        folder=folder,
        summary=summary,
        curve=curve,
        damages=damages,
        location=location,
        group=group,
        variants=variants,
    )


def _check_languages(
    folder: Path,
    languages: list[str],
    summary: Row,
    curve: Sequence[Row],
    damages: Sequence[Row],
) -> None:
    """Every file names the languages of the run, and damages.csv each of them once."""
    if sorted(row["language"] for row in damages) != sorted(languages):
        raise InputError(f"`{folder / 'damages.csv'}` is not one row per language of the run")
    of_curve = [row["tightest_language"] for row in curve]
    lists = ("test_reference_languages", "test_destroyed_languages")
    of_summary = [of for name in lists for of in summary[name].split()]
    of_summary += [summary[name] for name in SUMMARY if name.endswith("_language")]
    for name, found in (("curve.csv", of_curve), ("summary.json", of_summary)):
        if odd := [language for language in found if language not in languages]:
            raise InputError(f"`{folder / name}` names {odd[0]!r}, which the run does not have")
