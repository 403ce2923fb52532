"""What the hub cache holds of a repository."""

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi, constants, errors, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from jaxprotect.models.tokenizer_files import TOKENIZER_FILES
from jaxprotect.models.weight_files import FLAX, INDEX, safetensors_of


def needed_names(names: Iterable[str]) -> list[str]:
    """Of the files of a commit those that a model needs; none where its weights cannot be read."""
    names = set(names)
    weights = safetensors_of(names) or sorted({FLAX} & names)
    wanted = {"config.json", *TOKENIZER_FILES, *weights}
    return sorted(wanted & names) if weights and "config.json" in names else []


def cached_names(repo: str, commit: str) -> set[str]:
    """The files of a commit that are in the cache."""
    folder = _snapshots(repo) / commit
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


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
    names = cached_names(repo, commit)
    have = _is_whole(repo, commit, names) if weights else "config.json" in names
    return _snapshots(repo) / commit if have else None


def whole_commits(repo: str) -> list[str]:
    """The commits of which the config, the weights and the tokenizer are in the cache."""
    commits = sorted(folder.name for folder in _snapshots(repo).glob("*"))
    return [commit for commit in commits if _is_whole(repo, commit, cached_names(repo, commit))]


def _snapshots(repo: str) -> Path:
    cache = Path(constants.HF_HUB_CACHE)
    return cache / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"


def _is_whole(repo: str, commit: str, names: set[str]) -> bool:
    needed = needed_names(names)
    if not needed:
        return False
    # The listing that was kept with the files says whether a shard is missing.
    wanted = [*needed, *TOKENIZER_FILES]
    wanted += ["model-*-of-*.safetensors"] if INDEX in needed else []
    try:
        snapshot_download(repo, revision=commit, allow_patterns=wanted, local_files_only=True)
    except errors.LocalEntryNotFoundError:
        return False
    return True
