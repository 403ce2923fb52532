"""A hub id -> files at a pinned commit, in the hub cache.

The revision is resolved to a commit once; all questions and files after that are of this commit, on
all hosts, so that a branch that moves meanwhile mixes nothing. No code of a repository is run.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.utils import validate_repo_id

from jaxprotect.hosts import told
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub_bars import download_bar
from jaxprotect.models.hub_cache import cached_folder, cached_names, needed_names
from jaxprotect.models.hub_files import HubFiles, files_at, needed_files
from jaxprotect.models.hub_requests import Asked, explained, is_unreachable
from jaxprotect.progress import tell

WAITS = (1.0, 2.0, 4.0)
"""Seconds before the questions are asked again."""


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
        with explained(repo, revision, asked := Asked()):
            validate_repo_id(repo)
            return asdict(_ask(repo, revision, asked, weights=weights))

    files = HubFiles(**(told(ask) if weights else ask()))
    with explained(repo, files.commit, asked := Asked()):
        folder = cached_folder(repo, files.commit, weights=weights)
        return folder or _download(repo, files, asked), files.commit


def _ask(repo: str, revision: str | None, asked: Asked, *, weights: bool) -> HubFiles:
    """The files to fetch, or the commit in the cache where the hub does not answer."""
    for wait in (*WAITS, None):
        try:
            with asked.limited(in_all=True):
                return _needed(repo, revision, weights=weights)
        except Exception as error:
            if not is_unreachable(error):
                raise
            if folder := cached_folder(repo, revision, weights=weights):
                if not constants.HF_HUB_OFFLINE:
                    tell(f"{repo}: the hub cannot be reached; the cache has {folder.name[:12]}")
                return _cached(folder)
            if constants.HF_HUB_OFFLINE or wait is None or asked.is_over:
                raise
            time.sleep(wait)
    raise AssertionError  # the last round returns or raises


def _needed(repo: str, revision: str | None, *, weights: bool) -> HubFiles:
    api = HfApi()
    commit = api.resolve_revision(repo, revision=revision).resolved
    files = files_at(api, repo, commit)
    folder = Path(hf_hub_download(repo, "config.json", revision=commit)).parent
    if not weights:
        return HubFiles(commit=commit, sizes={"config.json": files.sizes["config.json"]})
    return needed_files(api, repo, files, load_config(folder).family)


def _cached(folder: Path) -> HubFiles:
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    needed = needed_names(sizes) or ["config.json"]
    return HubFiles(commit=folder.name, sizes={name: sizes[name] for name in needed})


def _download(repo: str, files: HubFiles, asked: Asked) -> Path:
    if missing := files.sizes.keys() - cached_names(repo, files.commit):
        tell(_sizes(repo, files, missing))
    wanted = sorted(files.sizes)
    with asked.limited(in_all=False), download_bar(repo) as bar:
        folder = snapshot_download(
            repo, revision=files.commit, allow_patterns=wanted, tqdm_class=bar
        )
    return Path(folder)


def _sizes(repo: str, files: HubFiles, missing: set[str]) -> str:
    """What is fetched to where, and what need not be."""

    def counted(names: set[str]) -> str:
        size = sum(files.sizes[name] for name in names) / 1e6
        return f"{len(names)} {'file' if len(names) == 1 else 'files'}, {size:,.1f} MB"

    line = f"{repo} at {files.commit[:12]}: {counted(missing)}, to fetch"
    line += f" into {constants.HF_HUB_CACHE}"
    there = files.sizes.keys() - missing
    return f"{line}; {counted(there)}, are there already" if there else line
