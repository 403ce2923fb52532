"""`jaxprotect report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxprotect.commands.options import print_json


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the page of a folder, or one page that compares several runs.

    Args:
        runs: run folders; or one `--out` of minimal-set, sensitivity or recommend.
        out: the page to write for several runs.
        json: print the numbers as JSON too.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    json: bool = False

    def run(self) -> None:
        """Write the page and say where it is."""
        from jaxprotect.runs.folder_pages import write_pages

        found = write_pages(self.runs, self.out)
        print_json(found) if self.json else print(found["report"])
