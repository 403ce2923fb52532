"""What the hub cache holds of a repository."""

import re
from pathlib import Path

from huggingface_hub import HfApi, constants, errors, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from jaxprotect.errors import listed
from jaxprotect.models.hub_files import needed_names
from jaxprotect.models.tokenizer_files import TOKENIZER_FILES
from jaxprotect.models.weight_files import INDEX


def commit_folder(repo: str, commit: str) -> Path:
    """Where the cache keeps the files of a commit; it need not be there."""
    return _commits_folder(repo) / commit


def cached_names(repo: str, commit: str) -> set[str]:
    """The files of a commit that are in the cache."""
    folder = commit_folder(repo, commit)
    # They are links; what some have linked to may have been deleted.
    return {file.name for file in folder.iterdir() if file.exists()} if folder.is_dir() else set()


def cached_folder(repo: str, revision: str | None, *, weights: bool) -> Path | None:
    """The folder of a revision, if all that is needed of it is in the cache.

    Args:
        repo: hub id.
        revision: branch, tag or commit, as the hub resolved it last; its head if None.
        weights: whether more than `config.json` is needed.

    Returns:
        The folder, named as the commit, or None.
    """
    try:
        found = HfApi().resolve_revision(repo, revision=revision, local_files_only=True)
    except errors.RevisionResolutionError:
        return None
    commit = found.resolved
    have = _is_whole(repo, commit) if weights else "config.json" in cached_names(repo, commit)
    return commit_folder(repo, commit) if have else None


def whole_commits(repo: str) -> list[str]:
    """The commits of which the cache has all that a model needs."""
    return [commit for commit in _commits(repo) if _is_whole(repo, commit)]


def said_of_cache(repo: str) -> str:
    """What the cache holds of a repository, for a message."""
    if whole := whole_commits(repo):
        return f"whole there, to be given as `revision`: {listed(whole)}"
    parts = [f"{listed(sorted(cached_names(repo, c)))} of {c[:12]}" for c in _commits(repo)]
    return f"only there: {', '.join(parts)}" if parts else "nothing of it is there"


def _commits_folder(repo: str) -> Path:
    cache = Path(constants.HF_HUB_CACHE)
    return cache / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"


def _commits(repo: str) -> list[str]:
    return sorted(folder.name for folder in _commits_folder(repo).glob("*"))


def _is_whole(repo: str, commit: str) -> bool:
    """Whether the config, the weights and the tokenizer of a commit are there."""
    needed = needed_names(cached_names(repo, commit))
    if not needed:
        return False
    if INDEX in needed and not any(name.endswith(".safetensors") for name in needed):
        return False
    # The listing that was kept with the files says whether a shard is missing beside those found.
    like_them = {re.sub(r"-\d{5}-of-", "-?????-of-", name) for name in needed}
    wanted = [*like_them, *TOKENIZER_FILES]
    try:
        snapshot_download(repo, revision=commit, allow_patterns=wanted, local_files_only=True)
    except errors.LocalEntryNotFoundError:
        return False
    return True
