"""A model by its name: the package's own, a folder, or a hub id -> a `Model`."""

from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh

from jaxprotect.errors import InputError, did_you_mean_folder
from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.hub_fetch import fetch, files_of
from jaxprotect.models.model import Model
from jaxprotect.models.tokenizer_files import read_tokenizer

REFERENCE = "reference"
"""The name of the model that ships with the package."""

REFERENCE_FOLDER = Path(__file__).parents[1] / "reference" / "model"


def load_model(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    mesh: Callable[[ModelConfig], Mesh | None] | None = None,
) -> Model:
    """A checkpoint with its tokenizer, from the package, a folder or the hub.

    Args:
        name_or_folder: `reference`, a Hugging Face folder, or a hub id (`gpt2`). A folder of that
            name comes before the hub.
        revision: branch, tag or commit of the hub repository; its head if None.
        mesh: architecture -> the mesh to put it on, such as `mesh_for`; the default device if
            None.

    Returns:
        The model in float32, with the commit it came from.

    Raises:
        InputError: there is no such model, or it cannot be had, or its files do not fit together.
    """
    folder, commit = resolve(name_or_folder, revision=revision)
    config = load_config(folder)
    tokenizer = read_tokenizer(folder, config)
    params, sha256 = load_params(folder, config, None if mesh is None else mesh(config))
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
    return load_config(folder or fetch(str(name_or_folder), revision, weights=False)[0])


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
    return (folder, None) if folder else fetch(str(name_or_folder), revision, weights=True)


def commit_of(name: str, *, revision: str) -> str:
    """The commit that the weights of a model on the hub would come from; they are not fetched.

    Args:
        name: hub id.
        revision: branch, tag or commit.

    Returns:
        The commit hash, as `resolve` gives it.

    Raises:
        InputError: as for `load_model`.
    """
    return files_of(name, revision, weights=True).commit


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
