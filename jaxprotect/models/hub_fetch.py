"""A hub id -> files at a pinned commit, in the hub cache.

Nothing here runs code from a repository, asks a server to convert a checkpoint, or reads a
pickle. Of a repository only `config.json`, the tokenizer's files and one set of weights are
fetched: safetensors; else the hub's own safetensors conversion, an open pull request of its bot
whose parent is the commit asked for; else flax msgpack.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download
from huggingface_hub.utils import validate_repo_id

from jaxprotect.errors import InputError, listed
from jaxprotect.models.config_files import load_config
from jaxprotect.models.families import get_family
from jaxprotect.models.hub_bars import download_bar
from jaxprotect.models.hub_cache import cached_folder, cached_names
from jaxprotect.models.hub_requests import Asked, explained, is_unreachable
from jaxprotect.models.tokenizer_files import TOKENIZER_FILES
from jaxprotect.models.weight_files import FLAX, INDEX, MOST_NAMES, SINGLE, safetensors_of
from jaxprotect.progress import tell

CONVERSION_BOT = "SFconvertbot"
CONVERSION_TITLE = "Adding `safetensors` variant of this model"

WAITS = (1.0, 2.0, 4.0)
"""Seconds before the questions are asked again."""


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Files of a commit, name -> bytes, and which of them the cache has had before."""

    commit: str
    sizes: dict[str, int]
    cached: set[str]

    def only(self, names: list[str]) -> "_Files":
        sizes = {name: size for name, size in self.sizes.items() if name in names}
        return replace(self, sizes=sizes, cached=self.cached & sizes.keys())

    def named(self) -> str:
        largest_first = sorted(self.sizes, key=lambda name: (-self.sizes[name], name))
        return listed(largest_first, MOST_NAMES) or "nothing"


def fetch(repo: str, revision: str | None, *, weights: bool) -> tuple[Path, str]:
    """Fetch what a model needs from the hub, or find it in the cache where the hub is away.

    Args:
        repo: hub id.
        revision: branch, tag or commit; the head if None.
        weights: whether more than `config.json` is needed. An architecture that is not supported
            is refused before they are fetched.

    Returns:
        The folder, and its commit: where the weights come from the hub's conversion, that of its
        pull request.

    Raises:
        InputError: the hub refuses, or has no such model, or cannot be reached while the cache
            lacks the files; the architecture or the kind of weights is not supported.
    """
    asked = Asked()
    with explained(repo, revision, asked):
        validate_repo_id(repo)
        found = _ask(repo, revision, asked, weights=weights)
        folder = found if isinstance(found, Path) else _download(repo, found, asked)
        return folder, folder.name


def _ask(repo: str, revision: str | None, asked: Asked, *, weights: bool) -> _Files | Path:
    """The files to fetch, or the folder in the cache where the hub does not answer."""
    for wait in (*WAITS, None):
        try:
            with asked.limited(in_all=True):
                return _needed_files(repo, revision, weights=weights)
        except Exception as error:
            if not is_unreachable(error):
                raise
            if folder := cached_folder(repo, revision, weights=weights):
                if not constants.HF_HUB_OFFLINE:
                    tell(f"{repo}: the hub cannot be reached; the cache has {folder.name[:12]}")
                return folder
            if constants.HF_HUB_OFFLINE or wait is None or asked.is_over:
                raise
            time.sleep(wait)
    raise AssertionError  # the last round returns or raises


def _needed_files(repo: str, revision: str | None, *, weights: bool) -> _Files | Path:
    """The files to fetch; the folder, where nothing but `config.json` is needed."""
    api = HfApi()
    files = _files(api, repo, revision)
    api.resolve_revision(repo, revision=revision)  # keeps the answer, for when the hub is away
    if "config.json" not in files.sizes:
        raise InputError(
            f"`{repo}` at {files.commit[:12]} has no config.json; it holds {files.named()}; give a "
            "repository in the format of transformers"
        )
    folder = Path(hf_hub_download(repo, "config.json", revision=files.commit)).parent
    if not weights:
        return folder
    family = load_config(folder).family
    found = _with_weights(api, repo, files)
    if found is None:
        convert = f"{get_family(family).architecture}.from_pretrained({repo!r}).save_pretrained"
        raise InputError(
            f"`{repo}` at {files.commit[:12]} has no weights that can be read: it holds "
            f"{files.named()}; allowed are `{SINGLE}`, `{INDEX}` with its shards, and `{FLAX}`; "
            f"convert it with `{convert}(FOLDER)` of transformers, and give the folder"
        )
    return found


def _with_weights(api: HfApi, repo: str, files: _Files) -> _Files | None:
    """The files of the commit that holds usable weights, cut down to those that are needed."""
    chosen = safetensors_of(files.sizes)
    if not chosen and (conversion := _conversion(api, repo, files.commit)):
        files, chosen = conversion, safetensors_of(conversion.sizes)
    if not chosen and FLAX in files.sizes:
        chosen = [FLAX]
    return files.only(["config.json", *TOKENIZER_FILES, *chosen]) if chosen else None


def _files(api: HfApi, repo: str, revision: str | None) -> _Files:
    found = api.model_info(repo, revision=revision, files_metadata=True)
    assert found.sha is not None, "the hub answers with a commit"
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
    return _Files(commit=found.sha, sizes=sizes, cached=cached_names(repo, found.sha))


def _conversion(api: HfApi, repo: str, commit: str) -> _Files | None:
    """The hub's own safetensors conversion of exactly this commit, pinned, if there is one.

    Anyone may open a pull request: only one by the bot counts, and only while its single commit
    stands on the very commit asked for, so that it can hold nothing but a conversion of it.
    """
    try:
        requests = list(api.get_repo_discussions(repo, author=CONVERSION_BOT))
    except errors.HfHubHTTPError as error:
        if is_unreachable(error):
            raise
        return None  # discussions can be disabled
    for request in requests:
        is_bots = request.author == CONVERSION_BOT and request.title == CONVERSION_TITLE
        if not (is_bots and request.is_pull_request and request.status == "open"):
            continue
        commits = api.list_repo_commits(repo, revision=f"refs/pr/{request.num}")
        newest = [entry.commit_id for entry in commits[:2]]
        if newest[1:] == [commit]:
            files = _files(api, repo, newest[0])
            if safetensors_of(files.sizes):
                return files
    return None


def _download(repo: str, files: _Files, asked: Asked) -> Path:
    if files.cached != files.sizes.keys():
        tell(_sizes(repo, files))
    wanted = sorted(files.sizes)
    with asked.limited(in_all=False), download_bar(repo) as bar:
        folder = snapshot_download(
            repo, revision=files.commit, allow_patterns=wanted, tqdm_class=bar
        )
    return Path(folder)


def _sizes(repo: str, files: _Files) -> str:
    """What is fetched, and what need not be."""

    def counted(names: set[str]) -> str:
        size = sum(files.sizes[name] for name in names)
        return f"{len(names)} {'file' if len(names) == 1 else 'files'}, {size:,} bytes"

    line = f"{repo} at {files.commit[:12]}: {counted(set(files.sizes) - files.cached)} to fetch"
    return f"{line}; in the cache {counted(files.cached)}" if files.cached else line
