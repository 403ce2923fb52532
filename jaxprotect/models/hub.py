"""A model id or a folder -> local files at a pinned revision -> a `Model`.

Nothing here runs code from a repository, asks a server to convert a checkpoint, or reads a
pickle. Of a repository only `config.json`, the tokenizer's files and one set of weights are
fetched: safetensors; else the hub's own safetensors conversion, an open pull request of its bot
whose parent is the commit asked for; else flax msgpack.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, errors, snapshot_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import httpx, validate_repo_id

from jaxprotect.errors import InputError, did_you_mean_folder
from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.model import Model
from jaxprotect.models.tokenizer_files import TOKENIZER_FILES, read_tokenizer
from jaxprotect.models.weight_files import FLAX, INDEX, SINGLE

REFERENCE = "reference"
"""The name of the model that ships with the package."""

REFERENCE_FOLDER = Path(__file__).parents[1] / "reference" / "model"

CONVERSION_BOT = "SFconvertbot"
CONVERSION_TITLE = "Adding `safetensors` variant of this model"

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_WANTED = f"`{SINGLE}`, `{INDEX}` with its shards, or `{FLAX}`"


def load_model(name_or_folder: str | Path, *, revision: str | None = None) -> Model:
    """A checkpoint with its tokenizer, from the package, a folder or the hub.

    Args:
        name_or_folder: `reference`, a Hugging Face folder, or a hub id (`gpt2`). A folder of that
            name comes before the hub.
        revision: branch, tag or commit of the hub repository; its head if None.

    Returns:
        The model in float32, with the commit it came from.

    Raises:
        InputError: there is no such model, or it cannot be had, or its files do not fit together.
    """
    folder, commit = resolve(name_or_folder, revision=revision)
    config = load_config(folder)
    tokenizer = read_tokenizer(folder, config)
    params, sha256 = load_params(folder, config)
    return Model(
        config=config,
        params=params,
        tokenizer=tokenizer,
        name=str(name_or_folder),
        revision=commit,
        sha256=sha256,
    )


def fetch_config(name_or_folder: str | Path, *, revision: str | None = None) -> ModelConfig:
    """The architecture alone; from the hub only `config.json` is fetched.

    Args:
        name_or_folder: as for `load_model`.
        revision: as for `load_model`.

    Returns:
        The architecture.

    Raises:
        InputError: as for `load_model`.
    """
    folder = _local_folder(name_or_folder, revision)
    return load_config(folder or _download(str(name_or_folder), revision, weights=False)[0])


def resolve(name_or_folder: str | Path, *, revision: str | None = None) -> tuple[Path, str | None]:
    """The folder that holds a model's files, fetched from the hub if need be.

    Args:
        name_or_folder: as for `load_model`.
        revision: as for `load_model`.

    Returns:
        The folder, and the commit hash of a hub repository (None for a folder). Where the weights
        come from the hub's conversion, the commit is that of its pull request.

    Raises:
        InputError: as for `load_model`.
    """
    folder = _local_folder(name_or_folder, revision)
    return (folder, None) if folder else _download(str(name_or_folder), revision, weights=True)


def _local_folder(name_or_folder: str | Path, revision: str | None) -> Path | None:
    name = str(name_or_folder)
    if not name.strip():
        raise InputError("`name_or_folder` is empty; give a folder, or a hub id such as `gpt2`")
    folder = REFERENCE_FOLDER if name == REFERENCE else Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(
                f"`revision` {revision!r} was given with `{name}`, which is a folder; "
                "only hub repositories have revisions"
            )
        return folder
    if folder.exists():
        raise InputError(f"`{name}` is a file; give its folder, or a hub id such as `gpt2`")
    is_path = isinstance(name_or_folder, Path) or name == REFERENCE or name[0] in "./~"
    if is_path or name.count("/") > 1:
        meant = did_you_mean_folder(folder, "config.json")
        raise InputError(
            f"`{folder}` does not exist; give a folder, or a hub id such as `gpt2`{meant}"
        )
    return None


def _download(repo: str, revision: str | None, *, weights: bool) -> tuple[Path, str]:
    api = HfApi()
    with _explained(repo, revision):
        validate_repo_id(repo)
        commit = api.resolve_revision(repo, revision=revision).resolved
        wanted = ["config.json"]
        if weights:
            commit, chosen = _choose_weights(api, repo, commit)
            wanted += [*TOKENIZER_FILES, *chosen]
        return Path(snapshot_download(repo, revision=commit, allow_patterns=wanted)), commit


def _choose_weights(api: HfApi, repo: str, commit: str) -> tuple[str, list[str]]:
    """The commit that holds usable weights, and the names of their files."""
    try:
        files = _files(api, repo, commit)
    except Exception as error:
        if not _is_unreachable(error):
            raise
        return commit, _cached_weights(repo, commit)
    if chosen := _safetensors(files):
        return commit, chosen
    if conversion := _conversion(api, repo, commit):
        return conversion
    if FLAX in files:
        return commit, [FLAX]
    found = [name for name in sorted(files) if Path(name).suffix in (".bin", ".h5", ".pt", ".gguf")]
    raise InputError(
        f"`{repo}` at {commit[:12]} has no weights that can be read: found "
        f"{_listed(found) or 'none'}, allowed {_WANTED}; save the model once in that form "
        "(`save_pretrained` in transformers) and give the folder"
    )


def _files(api: HfApi, repo: str, commit: str) -> set[str]:
    return {file.rfilename for file in api.model_info(repo, revision=commit).siblings or []}


def _safetensors(files: Iterable[str]) -> list[str]:
    files = set(files)
    if SINGLE in files:
        return [SINGLE]
    return [INDEX, *sorted(filter(_SHARD.fullmatch, files))] if INDEX in files else []


def _conversion(api: HfApi, repo: str, commit: str) -> tuple[str, list[str]] | None:
    """The hub's own safetensors conversion of exactly this commit, pinned, if there is one.

    Anyone may open a pull request: only one by the bot counts, and only while its single commit
    stands on the very commit asked for, so that it can hold nothing but a conversion of it.
    """
    try:
        requests = list(api.get_repo_discussions(repo, author=CONVERSION_BOT))
    except errors.HfHubHTTPError:  # discussions can be disabled
        return None
    for request in requests:
        is_bots = request.author == CONVERSION_BOT and request.title == CONVERSION_TITLE
        if not (is_bots and request.is_pull_request and request.status == "open"):
            continue
        commits = api.list_repo_commits(repo, revision=f"refs/pr/{request.num}")
        newest = [entry.commit_id for entry in commits[:2]]
        if newest[1:] == [commit]:
            head = newest[0]
            if chosen := _safetensors(_files(api, repo, head)):
                return head, chosen
    return None


def _cached_weights(repo: str, commit: str) -> list[str]:
    """The weight files of a commit in the cache, where the hub cannot be asked."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    cached = {
        snapshot.name: {file.name for file in snapshot.iterdir()}
        for snapshot in sorted((folder / "snapshots").glob("*"))
    }
    names = cached.get(commit, set())
    if chosen := _safetensors(names) or sorted(names & {FLAX}):
        return chosen
    # A conversion cannot be checked offline, so it is used only where it is named.
    others = [name for name, files in cached.items() if _safetensors(files)]
    hint = f"; cached with weights, to be given as `revision`: {_listed(others)}" if others else ""
    raise InputError(
        f"`{repo}` at {commit[:12]} is not in the cache with its weights, and the hub cannot be "
        f"reached{hint}"
    )


def _is_unreachable(error: Exception) -> bool:
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    unreachable = (errors.OfflineModeIsEnabled, errors.RevisionResolutionError)
    return isinstance(error, (*unreachable, errors.LocalEntryNotFoundError, httpx.TransportError))


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Every way the hub can refuse, as one line that says what to do."""
    page = f"{constants.ENDPOINT}/{repo}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError:
        raise InputError(
            f"`{repo}` is neither a folder nor a hub id; a hub id is `name` or `owner/name`"
        ) from None
    except errors.GatedRepoError as error:
        raise InputError(f"`{repo}` is gated: ask for access at {page}, then {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"`revision` {revision!r} does not exist in `{repo}`; see {page}/commits/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"`{repo}` is neither a folder nor a model on the hub; check the name, or {log_in} "
            "if it is private"
        ) from error
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError, errors.RevisionResolutionError) as e:
        # A refused file comes wrapped as one missing from the cache.
        cause = e.__cause__ if isinstance(e, errors.LocalEntryNotFoundError) else None
        reason = cause if isinstance(cause, errors.HfHubHTTPError) else e
        if _is_unreachable(reason):
            raise InputError(
                f"`{repo}` is not in the cache and the hub cannot be reached; check the network, "
                "unset HF_HUB_OFFLINE, or give a folder"
            ) from e
        if isinstance(reason, errors.HfHubHTTPError) and reason.response.status_code in (401, 403):
            raise InputError(f"`{repo}`: the hub refuses access; {log_in}") from e
        raise InputError(f"`{repo}` cannot be fetched: {_first_line(reason)}") from e


def _listed(names: list[str], most: int = 6) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
