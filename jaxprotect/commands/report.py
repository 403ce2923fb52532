"""`jaxprotect report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxprotect.commands.options import Switch, print_json


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the page of a folder, or one page that compares several runs.

    Examples:
        jaxprotect report runs/quickstart
        jaxprotect report runs/gpt2 runs/opt --out comparison.html

    Args:
        runs: run folders; or one `--out` of minimal-set, sensitivity or recommend.
        out: the page to write for several runs.
        json: print one JSON document: the page's path and the numbers.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    json: Switch = False

    def run(self) -> None:
        """Write the page and say where it is."""
        from jaxprotect.runs.folder_pages import write_pages

        found = write_pages(self.runs, self.out)
        print_json(found) if self.json else print(found["report"])
