"""Which files of a repository a model needs, at which commit.

A pickle is never among them, and no server is asked to convert one. The weights are safetensors,
whole or in shards; else the hub's own safetensors conversion, an open pull request of its bot whose
parent is the commit asked for; else flax msgpack.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from huggingface_hub import HfApi, errors

from jaxprotect.errors import InputError
from jaxprotect.models.families import get_family
from jaxprotect.models.hub_requests import is_unreachable
from jaxprotect.models.tokenizer_files import SENTENCEPIECE, TOKENIZER_FILES, lacks_tokenizer
from jaxprotect.models.weight_files import FLAX, INDEX, SINGLE, safetensors_of, weights_among

CONVERSION_BOT = "SFconvertbot"
CONVERSION_TITLE = "Adding `safetensors` variant of this model"


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Files of a repository.

    Args:
        commit: all of them are of it.
        sizes: name -> bytes.
    """

    commit: str
    sizes: dict[str, int]


def needed_names(names: Iterable[str]) -> list[str]:
    """Of the files of a commit those that a model needs; none where its weights cannot be read."""
    names = set(names)
    weights = safetensors_of(names) or sorted({FLAX} & names)
    wanted = {"config.json", *TOKENIZER_FILES, *weights}
    return sorted(wanted & names) if weights and "config.json" in names else []


def files_at(api: HfApi, repo: str, commit: str) -> HubFiles:
    """All files of a commit; only the hub's list of them is fetched.

    Args:
        api: to ask.
        repo: hub id.
        commit: its hash.

    Returns:
        The files.

    Raises:
        InputError: there is no `config.json`.
    """
    info = api.model_info(repo, revision=commit, files_metadata=True)
    files = HubFiles(
        commit=commit, sizes={file.rfilename: file.size or 0 for file in info.siblings or []}
    )
    if "config.json" not in files.sizes:
        raise InputError(
            f"`{repo}` at {commit[:12]} has no config.json: found "
            f"{weights_among(files.sizes) or 'no weights'}; give a repository in the format of "
            "transformers"
        )
    return files


def needed_files(api: HfApi, repo: str, files: HubFiles, family: str) -> HubFiles:
    """The config, the tokenizer's files and the weights: of the commit or of its conversion.

    Args:
        api: to ask for conversions.
        repo: hub id.
        files: all files of the commit.
        family: `model_type` of the model.

    Returns:
        The files to fetch.

    Raises:
        InputError: no weights that can be read, or no tokenizer: without one they would be fetched
            for nothing.
    """
    if not safetensors_of(files.sizes):
        files = _conversion(api, repo, files.commit) or files
    needed, lacks = needed_names(files.sizes), lacks_tokenizer(files.sizes)
    if needed and not lacks:
        return replace(files, sizes={name: files.sizes[name] for name in needed})
    classes = (get_family(family).architecture, "AutoTokenizer")
    calls = [f"`{kind}.from_pretrained({repo!r}).save_pretrained(FOLDER)`" for kind in classes]
    convert = f"convert it once with {' and '.join(calls)} of transformers and give the folder"
    if not needed:
        raise InputError(
            f"`{repo}` at {files.commit[:12]} has no weights that can be read: found "
            f"{weights_among(files.sizes) or 'none'}, allowed `{SINGLE}`, `{INDEX}` with its "
            f"shards, or `{FLAX}`, as pickles are never loaded; if you trust it, {convert}"
        )
    convertible = any(name.endswith(SENTENCEPIECE) for name in files.sizes)
    do = convert if convertible else "give a folder that has one beside the weights"
    raise InputError(
        f"`{repo}` at {files.commit[:12]} has no tokenizer that can be read: {lacks}; {do}"
    )


def _conversion(api: HfApi, repo: str, commit: str) -> HubFiles | None:
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
            files = files_at(api, repo, newest[0])
            if safetensors_of(files.sizes):
                return files
    return None
