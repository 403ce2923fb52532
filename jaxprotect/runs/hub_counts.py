"""Counting the hub's models in a folder: every page that was read is kept, the next run goes on.

manifest.json       the hub's address and the queries
<query>/00001.json  of a page: what it amounts to, when it was read, where the next one begins
lock                held while a process counts
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxprotect.disk import locked, make_folder
from jaxprotect.errors import InputError
from jaxprotect.models.hub_listing import Query, endpoint, pages
from jaxprotect.models.hub_tally import ALL, GENERATING, LEVELS, QUERIES, RULES, tally
from jaxprotect.models.json_files import read_json
from jaxprotect.models.pace import LimitReachedError, Pace, Pacer
from jaxprotect.progress import progress
from jaxprotect.runs.ecosystem import Amount, Kind
from jaxprotect.runs.results import to_json, write_atomically
from jaxprotect.runs.run_checks import Kinds, require
from jaxprotect.runs.wording import counted

PAGE: Kinds = {
    "counts": (dict,),
    "date": (str,),
    "next": (str, type(None)),
    "first": (str, type(None)),
    "last": (str, type(None)),
}
"""Of a page's file; first and last are dates of creation."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A query, as far as it was read.

    Args:
        query: what was listed.
        counts: sums over its pages.
        pages: how many were read.
        after: query of the next page; None at the end or before the beginning.
        first: ISO date on which the first page was read.
        last: ISO date on which the last page was read.
        in_order: whether the hub kept to the order of creation.
    """

    query: Query
    counts: Counter[str]
    pages: int
    after: str | None
    first: str
    last: str
    in_order: bool

    @property
    def complete(self) -> bool:
        """Whether the list was read to its end."""
        return self.pages > 0 and self.after is None

    def matching(self, kind: str) -> dict[str, int]:
        """Name -> models, of all counts of a kind (`category`, `size`, `language`)."""
        found = {key: n for key, n in self.counts.items() if key.startswith(f"{kind} ")}
        return {key.removeprefix(f"{kind} "): n for key, n in Counter(found).most_common()}


@dataclass(frozen=True, kw_only=True)
class HubCount:
    """What was counted, and why no more.

    Args:
        endpoint: the hub's address.
        listed: each query, as far as it was read.
        stopped: the limit that stopped it; empty if nothing is left to read.
    """

    endpoint: str
    listed: tuple[Listed, ...]
    stopped: str

    def amounts(self) -> list[Amount]:
        """The counts of levels 0 to 3 that there are."""
        return [
            _amount(self.endpoint, of, level)
            for level in LEVELS
            for of in self.listed
            if of.pages and of.query == (GENERATING if level else ALL)
        ]

    def findings(self) -> list[str]:
        """What a reader of the counts must know."""
        lines = [
            f"{of.query.name}: the hub left the order of creation, so that models may be "
            "counted twice or missed"
            for of in self.listed
            if not of.in_order
        ]
        unread = [of for of in self.listed if not of.complete]
        lines += [
            f"{of.query.name}: stopped after {counted(of.pages, 'page')} ({self.stopped}); the "
            "same command goes on"
            for of in unread
        ]
        return lines


def count_hub(folder: Path, pace: Pace, *, pacer: Pacer | None = None) -> HubCount:
    """Read the hub's lists of models as far as the limits allow, and add up.

    Args:
        folder: keeps every page; a count that is finished is not made again.
        pace: the limits of this run.
        pacer: keeps the pace, for tests.

    Returns:
        The counts.

    Raises:
        InputError: the hub is down, refuses or answers nonsense (pages that were read are kept);
            the folder is of another hub, damaged, or being written to.
    """
    keeps_pace = pacer or Pacer(pace)
    stopped = ""
    make_folder(folder)
    with locked(folder / "lock", f"`out` {folder}"):
        _open(folder)
        for query in QUERIES:
            try:
                _read_on(folder / _name(query), query, keeps_pace)
            except LimitReachedError as limit:
                stopped = str(limit)
                break
            except InputError as error:
                kept = sum(len(_files(folder / _name(of))) for of in QUERIES)
                raise InputError(
                    f"{error}; kept: {counted(kept, 'page')} in {folder}, the same command goes on"
                ) from error
        listed = tuple(read_listed(folder / _name(query), query) for query in QUERIES)
    return HubCount(endpoint=endpoint(), listed=listed, stopped=stopped)


def _open(folder: Path) -> None:
    """Start a count, or refuse to mix two."""
    path = folder / "manifest.json"
    queries = {query.name: f"/api/models?{query.text}" for query in QUERIES}
    wanted = {"endpoint": endpoint(), "queries": queries}
    if not path.exists():
        write_atomically(path, to_json(wanted, indent=1).encode())
    elif (found := read_json(path)) != wanted:
        there = found.get("endpoint")
        what = f"of {there}, not of {endpoint()}" if there != endpoint() else "of other queries"
        raise InputError(f"`out` {folder} holds a count {what}; give another folder")


def _read_on(folder: Path, query: Query, pacer: Pacer) -> None:
    """Read the pages that are missing, and keep each."""
    known = read_listed(folder, query)
    if known.complete:
        return
    bar = progress(desc=query.name, unit=" pages", initial=known.pages)
    try:
        number = known.pages
        for page in pages(query, pacer, after=known.after):
            number += 1
            born = [entry.get("createdAt") for entry in page.entries]
            born = [date for date in born if isinstance(date, str)]
            content = {
                "counts": tally(query, page.entries),
                "date": datetime.now(UTC).date().isoformat(),
                "next": page.next,
                "first": max(born, default=None),
                "last": min(born, default=None),
            }
            write_atomically(folder / f"{number:05}.json", to_json(content).encode())
            bar.update()
    finally:
        bar.close()


def read_listed(folder: Path, query: Query) -> Listed:
    """A query as its folder has it.

    Args:
        folder: of the query's pages; one that is missing has none.
        query: the query.

    Returns:
        The sums of its pages.

    Raises:
        InputError: a page that is missing in the middle or damaged.
    """
    read: list[dict[str, Any]] = []
    for number, path in enumerate(_files(folder), 1):
        if path.name != f"{number:05}.json":
            raise InputError(f"`{folder}` lacks page {number}; delete it to count anew")
        content = read_json(path)
        require(content, PAGE, f"`{path}`")
        if not all(type(count) is int for count in content["counts"].values()):
            raise InputError(f"`{path}`.counts has what is no whole number")
        read.append(content)
    counts: Counter[str] = Counter()
    for page in read:
        counts.update(page["counts"])
    dates = [(page["first"], page["last"]) for page in read if page["first"] and page["last"]]
    return Listed(
        query=query,
        counts=counts,
        pages=len(read),
        after=read[-1]["next"] if read else None,
        first=read[0]["date"] if read else "",
        last=read[-1]["date"] if read else "",
        in_order=all(before[1] >= after[0] for before, after in itertools.pairwise(dates)),
    )


def _amount(endpoint: str, of: Listed, level: int) -> Amount:
    counts, at_least = of.counts, list[Kind]()
    models = counts[f"level {level}"]
    stated = counts[f"level {level} stated"]
    filters = of.query.filters
    source = RULES.get(level, f"{endpoint}/api/models{'?' if filters else ''}{filters}")
    if level in (1, 2):
        source += f"; {stated:,} state their weights"
    if not of.complete:
        at_least.append("models")
    if level and (not of.complete or stated < models):
        at_least.append("weights")
    return Amount(
        level=level,
        name=LEVELS[level],
        models=models,
        weights=counts[f"level {level} weights"] if stated else None,
        source=source,
        date=of.last if of.first == of.last else f"{of.first} to {of.last}",
        at_least=tuple(at_least),
    )


def _files(folder: Path) -> list[Path]:
    """The pages' files, in order."""
    return sorted(folder.glob("[0-9]*.json"))


def _name(query: Query) -> str:
    return re.sub(r"\W+", "-", query.name)
