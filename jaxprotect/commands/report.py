"""`jaxprotect report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxprotect.commands.options import Switch, print_json
from jaxprotect.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report again, or one page that compares runs.

    Examples:
        jaxprotect report runs/quickstart
        jaxprotect report runs/gpt2 runs/opt --out comparison.html

    Args:
        runs: run folders.
        out: the page to write for several runs.
        json: print one JSON document: the page's path and the summaries.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    json: Switch = False

    def run(self) -> None:
        """Write the page and say where it is."""
        from jaxprotect.runs.report import write_comparison, write_report
        from jaxprotect.runs.results import read_run
        from jaxprotect.runs.summary import write_summary

        if not self.runs:
            raise InputError("`runs` is empty; give at least one run folder")
        opened = [read_run(folder) for folder in self.runs]
        summaries = [write_summary(run) for run in opened]
        if len(opened) == 1:
            path = write_report(opened[0], summaries[0])
        else:
            path = write_comparison(opened, self.out)
        print_json({"report": str(path), "runs": summaries}) if self.json else print(path)
