"""`jaxprotect report`."""

import contextlib
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
        runs: run folders or their URLs; or one `--out` of minimal-set, sensitivity or recommend.
        out: the page to write for several runs.
        json: print one JSON document: the page's path and the numbers.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    json: Switch = False

    def run(self) -> None:
        """Write the page and say where it is."""
        from jaxprotect.runs.folder_pages import write_pages
        from jaxprotect.runs.remote_folder import address, uploaded_file, working_folder

        with contextlib.ExitStack() as stack:
            folders = [stack.enter_context(working_folder(run, name="runs")) for run in self.runs]
            page = stack.enter_context(uploaded_file(self.out)) if len(folders) > 1 else self.out
            found = write_pages(folders, page)
            found["report"] = address(found["report"])
        print_json(found) if self.json else print(found["report"])
