"""A recommendation as files: summary.json, tried.csv, damages.csv; and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.models.json_files import read_json
from jaxprotect.runs.csv_files import Kinds, read_csv
from jaxprotect.runs.recommend import Recommendation
from jaxprotect.runs.results import to_json, write_atomically, write_csv
from jaxprotect.runs.run_checks import require
from jaxprotect.runs.wording import language_names

Row = Mapping[str, Any]

OURS = ("statistics", "summary.json", "tried.csv", "damages.csv", "report.html", "figures")
"""What a recommendation's folder may hold."""

NUMBER = (float, int)
MAYBE = (float, int, NoneType)


def _interval(name: str, first: tuple[type, ...] = NUMBER) -> Kinds:
    return {name: first, f"{name}_low": MAYBE, f"{name}_high": MAYBE}


SUMMARY: Kinds = {
    **dict.fromkeys(("technique", "quantizer", "plain_quantizer", "kept", "model"), (str,)),
    **dict.fromkeys(("worst_language", "worst_absolute_language"), (str,)),
    **dict.fromkeys(("plain_worst_language", "ratio_reason"), (str,)),
    **dict.fromkeys(("reference_languages", "destroyed_languages"), (str,)),
    **dict.fromkeys(("budget", "bytes", "sentences"), (int,)),
    **dict.fromkeys(("tune_worst_relative", "level"), NUMBER),
    **_interval("worst_relative"),
    **_interval("worst_damage"),
    **_interval("reference_relative"),
    **_interval("plain_worst_relative"),
    **_interval("change"),
    **_interval("ratio", MAYBE),
}
TRIED: Kinds = {
    **dict.fromkeys(("technique", "quantizer"), (str,)),
    "bytes": (int,),
    "tune_worst_relative": (float,),
}
DAMAGES: Kinds = {
    "language": (str,),
    "destroyed": (bool,),
    **{
        f"{of}{end}": (float, NoneType) if end else (float,)
        for of in ("relative", "damage", "plain", "removed")
        for end in ("", "_low", "_high")
    },
}


@dataclass(frozen=True, kw_only=True)
class RecommendFolder:
    """A recommendation, read back.

    Args:
        folder: where it lies.
        summary: what to do, and what test says of it.
        tried: one row per technique, the best on tune first.
        damages: one row per language on test.
        names: language -> name to show.
    """

    folder: Path
    summary: Row
    tried: Sequence[Row]
    damages: Sequence[Row]
    names: Mapping[str, str]


def refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a recommendation."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in names if name not in OURS]:
        raise InputError(f"`out` {folder} holds {others[:5]}; give a new or empty folder")


def save_recommendation(folder: Path, made: Recommendation, model: str) -> None:
    """Write a recommendation's tables.

    Args:
        folder: made if it is not there.
        made: the recommendation.
        model: name of its model.
    """
    write_csv(folder / "tried.csv", made.tried)
    write_csv(folder / "damages.csv", made.damages)
    summary = dict(made.summary) | {"kept": made.kept, "model": model}
    write_atomically(folder / "summary.json", to_json(summary, indent=1).encode())


def read_recommendation(folder: Path) -> RecommendFolder:
    """The recommendation that lies in a folder.

    Args:
        folder: the `out` of `jaxprotect recommend`.

    Returns:
        The recommendation.

    Raises:
        InputError: a file is missing or damaged, or names a language that damages.csv lacks.
    """
    path = folder / "summary.json"
    summary = read_json(path)
    require(summary, SUMMARY, f"`{path}`")
    damages = read_csv(folder / "damages.csv", DAMAGES)
    codes = [row["language"] for row in damages]
    if len(set(codes)) < len(codes):
        raise InputError(f"`{folder / 'damages.csv'}` has a language twice")
    named = [summary[name] for name in SUMMARY if name.endswith("_language")]
    for name in ("reference_languages", "destroyed_languages"):
        named += summary[name].split()
    if odd := [code for code in named if code not in codes]:
        raise InputError(f"`{path}` names {odd[0]!r}, which damages.csv does not have")
    return RecommendFolder(
        folder=folder,
        summary=summary,
        tried=read_csv(folder / "tried.csv", TRIED),
        damages=damages,
        names=language_names(codes),
    )
