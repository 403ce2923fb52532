"""A hub id -> files at a pinned commit, in the hub cache.

The revision is resolved to a commit once; all questions and files after that are of this commit, on
all hosts, so that a branch that moves meanwhile mixes nothing. No code of a repository is run.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.utils import validate_repo_id
from tqdm.asyncio import tqdm_asyncio as tqdm  # what huggingface_hub asks for

from jaxprotect import progress
from jaxprotect.errors import first_line_of
from jaxprotect.hosts import told
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub_cache import cached_folder, cached_names, commit_folder
from jaxprotect.models.hub_errors import explained
from jaxprotect.models.hub_files import HubFiles, files_at, needed_files, needed_names
from jaxprotect.models.hub_requests import Requests, is_unreachable


def fetch(repo: str, revision: str | None, *, weights: bool) -> tuple[Path, str]:
    """Fetch what a model needs from the hub, or find it in the cache where the hub is away.

    Args:
        repo: hub id.
        revision: branch, tag or commit; the head if None.
        weights: whether more than `config.json` is needed. An architecture that is not supported
            is refused before they are fetched. Of several hosts all take part then.

    Returns:
        The folder, and its commit: where the weights come from the hub's conversion, that of its
        pull request.

    Raises:
        InputError: the hub refuses, or has no such model, or cannot be reached while the cache
            lacks the files; the architecture or the kind of weights is not supported.
    """

    def ask() -> dict[str, Any]:
        return asdict(files_of(repo, revision, weights=weights))

    files = HubFiles(**(told(ask) if weights else ask()))
    with explained(repo, files.commit, requests := Requests()):
        _download(repo, files, requests)
    return commit_folder(repo, files.commit), files.commit


def files_of(repo: str, revision: str | None, *, weights: bool) -> HubFiles:
    """The files that are needed, as the hub has them; as the cache has them if it is away.

    Args:
        repo: as for `fetch`.
        revision: as for `fetch`.
        weights: as for `fetch`.

    Returns:
        Their commit, names and sizes. Only `config.json` is fetched.

    Raises:
        InputError: as for `fetch`.
    """
    with explained(repo, revision, requests := Requests()):
        validate_repo_id(repo)
        return _files(repo, revision, requests, weights=weights)


def _files(repo: str, revision: str | None, requests: Requests, *, weights: bool) -> HubFiles:
    cached = cached_folder(repo, revision, weights=weights)

    def ask() -> HubFiles:
        api = HfApi()
        commit = api.resolve_revision(repo, revision=revision).resolved
        files = files_at(api, repo, commit)
        folder = Path(hf_hub_download(repo, "config.json", revision=commit)).parent
        if not weights:
            return HubFiles(commit=commit, sizes={"config.json": files.sizes["config.json"]})
        return needed_files(api, repo, files, load_config(folder).family)

    try:
        return requests.retried(ask, again=cached is None, in_all=True)
    except Exception as error:
        if cached is None or not is_unreachable(error):
            raise
    if not constants.HF_HUB_OFFLINE:
        progress.tell(f"{repo}: the hub cannot be reached; the cache has {cached.name[:12]}")
    sizes = {n: (cached / n).stat().st_size for n in cached_names(repo, cached.name)}
    needed = needed_names(sizes) if weights else ["config.json"]
    return HubFiles(commit=cached.name, sizes={name: sizes[name] for name in needed})


def _download(repo: str, files: HubFiles, requests: Requests) -> None:
    """Fetch what the cache lacks, after a line on how much that is."""
    missing = sorted(files.sizes.keys() - cached_names(repo, files.commit))
    if not missing:
        return
    size = sum(files.sizes[name] for name in missing) / 1e6
    progress.tell(
        f"{repo} at {files.commit[:12]}: fetching {len(missing)} "
        f"{'file' if len(missing) == 1 else 'files'}, {size:,.1f} MB, "
        f"into {constants.HF_HUB_CACHE}"
    )

    def fetch_all() -> None:
        with _bar(repo) as bar:
            snapshot_download(repo, revision=files.commit, allow_patterns=missing, tqdm_class=bar)

    try:
        requests.retried(fetch_all)
    except RuntimeError as error:  # all that hf_xet raises where its storage refuses or is away
        if constants.HF_HUB_DISABLE_XET:
            raise
        progress.tell(f"{repo}: Xet fails ({first_line_of(error)}); fetching without it")
        with _without_xet():
            requests.retried(fetch_all)


@contextmanager
def _without_xet() -> Iterator[None]:
    """Let huggingface_hub fetch over plain HTTP."""
    before = constants.HF_HUB_DISABLE_XET  # read anew for each file
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


@contextmanager
def _bar(desc: str) -> Iterator[type[tqdm]]:
    """A `tqdm_class` for `snapshot_download` that keeps to the rules of `progress`.

    Of its three bars, of files, of bytes received and of bytes written, only the last is shown.
    They are closed when the block ends, which `snapshot_download` does not do.
    """
    opened: list[tqdm] = []

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            shown = str(options.get("desc")).startswith("Reconstructing")
            own = {"desc": desc, "bar_format": None, "leave": False, "delay": progress.DELAY}
            hidden = not shown or progress.is_hidden()
            super().__init__(*args, **options | own | {"disable": hidden})
            opened.append(self)

        def refresh(self, *args: Any, **options: Any) -> None:
            """As tqdm's, but a bar that is refreshed by hand waits for its second too."""
            began = getattr(self, "start_t", float("inf"))  # not set yet by the first refresh
            if not self.disable and time.time() >= began + progress.DELAY:
                super().refresh(*args, **options)

        def set_description(self, *args: Any, **options: Any) -> None:
            """What is fetched stays the description."""

        set_description_str = set_description

    try:
        yield Bar
    finally:
        for bar in opened:
            bar.close()
