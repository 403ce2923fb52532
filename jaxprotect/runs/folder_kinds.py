"""What a folder is, as far as a page can be made of it; anything else is refused by its name."""

from pathlib import Path
from typing import Literal

from jaxprotect.errors import InputError
from jaxprotect.models.json_files import read_json
from jaxprotect.runs.packed_files import FORMAT
from jaxprotect.runs.wording import listed

Kind = Literal["run", "minimal set", "sensitivity", "recommendation"]

DEPTHS = ("", "*/", "*/*/", "*/*/*/")
"""How deep runs inside a folder are looked for."""


def kind_of(folder: Path) -> Kind:
    """What lies in a folder.

    Args:
        folder: such as a run's.

    Returns:
        `run`: variants measured; the others: the `out` of `minimal-set`, `sensitivity` and
        `recommend`.

    Raises:
        InputError: none of them; the message says what it is, and what serves it.
    """
    if (folder / "manifest.json").exists():
        _refuse_others(folder)
        return "run"
    if (folder / "tune" / "manifest.json").exists() or (folder / "curve.csv").exists():
        return "minimal set"
    if (folder / "tried.csv").exists():
        return "recommendation"
    if (folder / "location.csv").exists() and (folder / "languages.csv").exists():
        return "sensitivity"
    raise InputError(_what_it_is(folder))


def _refuse_others(folder: Path) -> None:
    """Refuse folders of ours whose manifest is not that of a run."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("format") == FORMAT:
        raise InputError(
            f"{folder} is a packed model; `jaxprotect evaluate --model {folder}` measures it"
        )
    if "labels" in manifest and "experiments" not in manifest:
        raise InputError(
            f"{folder} holds statistics; report the folder that `jaxprotect sensitivity --out` "
            "writes, where the statistics are inside"
        )


def _what_it_is(folder: Path) -> str:
    said = f"{folder} is not a run folder: it has no manifest.json"
    if (folder / "config.json").exists():
        return f"{folder} is a model; `jaxprotect evaluate --model {folder}` measures it"
    inside = _runs_inside(folder)
    if inside:
        said += f"; report one of those inside: {listed(inside)}"
    if (folder / "report.html").exists():
        said += f"; its page, {folder / 'report.html'}, is written by the experiment itself"
    return said


def _runs_inside(folder: Path) -> list[str]:
    """Folders of runs and searches below, relative to the folder."""
    found = {
        path.parent.parent if path.parent.name == "tune" else path.parent
        for depth in DEPTHS[1:]
        for name in ("results.jsonl", "location.csv", "tried.csv")
        for path in folder.glob(f"{depth}{name}")
    }
    return sorted(path.relative_to(folder).as_posix() for path in found)
