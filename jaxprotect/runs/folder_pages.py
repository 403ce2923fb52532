"""The page of a folder, whatever the command that wrote it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.runs.folder_kinds import kind_of
from jaxprotect.runs.minimal_folder import read_minimal
from jaxprotect.runs.minimal_page import write_minimal_page
from jaxprotect.runs.recommend_folder import read_recommendation
from jaxprotect.runs.recommend_page import write_recommendation_page
from jaxprotect.runs.report import write_comparison, write_report
from jaxprotect.runs.results import read_run
from jaxprotect.runs.sensitivity_page import read_map, write_sensitivity_page
from jaxprotect.runs.summary import write_summary


def write_pages(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the page of a folder, or one page that compares several runs.

    Args:
        folders: run folders, or the `out` of one `minimal-set`, `sensitivity` or
            `recommend`.
        out: the page to write for several runs.

    Returns:
        `report`: where it is; and the numbers: `runs`, a summary each, or `summary` of a minimal
        set or a recommendation, or `languages` of a sensitivity map.

    Raises:
        InputError: no folder, something else than runs among several, or a folder that no page can
            be made of.
    """
    if not folders:
        raise InputError("`runs` is empty; give at least one run folder")
    kinds = {folder: kind_of(folder) for folder in folders}
    for folder, kind in kinds.items():
        if kind != "run" and len(folders) > 1:
            raise InputError(f"{folder} is a {kind}; only runs are compared, report it alone")
    if kinds[folders[0]] == "minimal set":
        search = read_minimal(folders[0])
        return {"report": str(write_minimal_page(search)), "summary": search.summary}
    if kinds[folders[0]] == "sensitivity":
        found = read_map(folders[0])
        return {"report": str(write_sensitivity_page(found)), "languages": found.languages}
    if kinds[folders[0]] == "recommendation":
        recommended = read_recommendation(folders[0])
        path = write_recommendation_page(recommended)
        return {"report": str(path), "summary": recommended.summary}
    opened = [read_run(folder) for folder in folders]
    summaries = [write_summary(run) for run in opened]
    if len(opened) == 1:
        path = write_report(opened[0], summaries[0])
    else:
        path = write_comparison(opened, out, summaries)
    return {"report": str(path), "runs": summaries}
