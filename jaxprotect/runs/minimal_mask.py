"""The minimal set of a folder as a mask for a model of which only the architecture is at hand."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxprotect.errors import InputError, did_you_mean_folder
from jaxprotect.models.axes import ELIGIBLE, Eligible
from jaxprotect.models.census import Census, known_name
from jaxprotect.models.config import complete
from jaxprotect.models.hub import REFERENCE, REFERENCE_FOLDER, commit_of
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.models.weight_files import open_weights
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.folder_kinds import kind_of
from jaxprotect.runs.mask_files import read_mask
from jaxprotect.runs.minimal_folder import MinimalFolder, read_minimal
from jaxprotect.runs.results import to_json


def search_on(folder: Path, census: Census, *, revision: str | None = None) -> MinimalFolder:
    """The finished search of a folder, if it is on this model.

    Args:
        folder: that `jaxprotect minimal-set` has filled.
        census: of the model, with the name that the user gave.
        revision: of the hub repository.

    Returns:
        The search.

    Raises:
        InputError: no such folder, or one of another kind; a search that is not finished or
            damaged, or on another model.
    """
    if not folder.is_dir():
        meant = did_you_mean_folder(folder, "curve.csv")
        raise InputError(f"`minimal_set` {folder} is no folder{meant}")
    if (kind := kind_of(folder)) != "minimal set":
        raise InputError(
            f"`minimal_set` {folder} is a folder of kind {kind}; give one that "
            "`jaxprotect minimal-set` has filled"
        )
    search = read_minimal(folder)
    check_same_model(search, census, revision=revision)
    return search


def check_same_model(search: MinimalFolder, census: Census, *, revision: str | None = None) -> None:
    """Refuse a search on another model.

    Where the model's weights lie in a folder, their checksum decides; else its name and commit, so
    that no weights are fetched.

    Args:
        search: a finished search.
        census: of the model, with the name that the user gave.
        revision: of the hub repository.

    Raises:
        InputError: another architecture, other weights, another name or revision.
    """
    found: dict[str, Any] = search.run.manifest["model"]
    wanted = json.loads(to_json(asdict(census.config)))
    there = complete(found["architecture"])
    start = f"`minimal_set` {search.folder} is of the model {found['name']}, not of {census.name}"
    if differing := [key for key in wanted if there.get(key) != wanted[key]]:
        key = differing[0]
        raise InputError(f"{start}: {key} is {there.get(key)!r} there, {wanted[key]!r} here")
    folder = REFERENCE_FOLDER if census.name == REFERENCE else Path(census.name).expanduser()
    if folder.is_dir():
        if open_weights(folder).checksum() != found["sha256"]:
            raise InputError(f"{start}: the weights' sha256 differ")
    elif known_name(found["name"]) != known_name(census.name):
        raise InputError(start)
    elif (
        revision is not None
        and (commit := found["revision"]) not in (None, revision)
        and commit != commit_of(census.name, revision=revision)
    ):
        raise InputError(f"{start} at revision {revision}: it is of {commit}")


def mask_of(search: MinimalFolder, census: Census) -> Mask | None:
    """Which weights a search found.

    Args:
        search: a finished search on this model.
        census: of the model.

    Returns:
        The mask; None if the target was not reached or nothing needs protection.

    Raises:
        InputError: the mask is missing, damaged, or not of this search.
    """
    if not search.summary["found"]:
        return None
    return read_mask(
        search.folder / "mask.npz",
        parameter_shapes(census.config),
        sha256=search.run.manifest["model"]["sha256"],
        name=census.name,
    )


def policy_of(search: MinimalFolder) -> Eligible:
    """Which leaves a search's quantizer rounds.

    Raises:
        InputError: the manifest does not say.
    """
    found = search.run.manifest["config"].get("spec", {}).get("eligible")
    if found not in ELIGIBLE:
        raise InputError(f"`{search.folder / 'tune'}` has eligible {found!r} in its manifest")
    return found
