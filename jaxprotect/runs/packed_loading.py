"""A packed folder -> a `Model` that stays packed; every model by name, packed or not."""

import hashlib
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxprotect.errors import InputError, reason_of
from jaxprotect.models import hub
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.folders import file_in
from jaxprotect.models.json_files import read_json
from jaxprotect.models.meshes import mesh_for, on_mesh
from jaxprotect.models.model import Model
from jaxprotect.models.tokenizer_files import read_tokenizer
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.models.weight_files import SINGLE, checksum
from jaxprotect.quantization.index_arrays import Arrays
from jaxprotect.quantization.layout import layers_of
from jaxprotect.quantization.matrices import tensor_name
from jaxprotect.quantization.packed_params import packed_params
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.folder_kinds import kind_of
from jaxprotect.runs.packed_files import FORMAT, MANIFEST, VERSION
from jaxprotect.runs.prefix_files import PREFIX_FILE, load_prefix
from jaxprotect.trees import leaf_paths

_ENTRIES = {"spec": dict, "model": dict, "tokenizer": bool, "bytes": int, "sha256": dict}


def load_placed(name: str, *, revision: str | None = None, mesh: str | None = None) -> Model:
    """As `load_model`, on all devices: each host reads what its devices hold.

    Args:
        name: as for `load_model`.
        revision: as for `load_model`.
        mesh: as for `on_mesh`.

    Returns:
        The model on a mesh, or on one device.

    Raises:
        InputError: as `load_model` and `on_mesh`.
    """
    if (folder := packed_folder(name, revision)) is not None:
        return on_mesh(load_packed(folder), mesh)
    return hub.load_model(name, revision=revision, mesh=lambda config: mesh_for(config, mesh))


def load_model(name_or_folder: str | Path, *, revision: str | None = None) -> Model:
    """A checkpoint with its tokenizer, from the package, a folder (packed or not) or the hub.

    Args:
        name_or_folder: `reference`, a folder of `pack`, a Hugging Face folder, or a hub id.
        revision: branch, tag or commit of the hub repository; its head if None.

    Returns:
        The model: packed where the folder is, else in float32.

    Raises:
        InputError: there is no such model, or it cannot be had, or its files do not fit together.
    """
    if (folder := packed_folder(name_or_folder, revision)) is not None:
        return load_packed(folder)
    return hub.load_model(name_or_folder, revision=revision)


def packed_folder(name_or_folder: str | Path, revision: str | None) -> Path | None:
    """The packed folder of that name, if there is one; one of results is refused."""
    folder = Path(name_or_folder).expanduser()
    if revision is None and folder.is_dir() and is_packed_folder(folder):
        return folder
    _refuse_results(folder)
    return None


def _refuse_results(folder: Path) -> None:
    """Say what a folder is that one of our commands wrote, and that is no model."""
    if not folder.is_dir() or (folder / "config.json").exists():
        return
    try:
        kind = kind_of(folder)
    except InputError:
        return  # whatever it is, its lack of a config.json says enough
    raise InputError(
        f"`model` is {folder}, which has the results of a {kind}, and no model; "
        f"`jaxprotect report {folder}` shows them"
    )


def is_packed_folder(folder: Path) -> bool:
    """Whether `pack` wrote the folder, as far as its manifest says."""
    try:
        return _manifest(folder).get("format") == FORMAT
    except InputError:
        return False


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """What a packed folder says of itself.

    Args:
        folder: a folder that `pack` wrote.

    Returns:
        The content of its manifest.

    Raises:
        InputError: no packed folder, a newer format, or entries that are missing.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"`folder` {folder} is not a packed model: its {MANIFEST} has the format "
            f"{manifest.get('format')!r}; expected {FORMAT!r}"
        )
    if manifest.get("version") != VERSION:
        raise InputError(
            f"`folder` {folder} has format version {manifest.get('version')!r}; this version of "
            f"jaxprotect reads {VERSION}: update it, or pack the model again"
        )
    if missing := [entry for entry in _ENTRIES if entry not in manifest]:
        raise InputError(f"`folder` {folder}: {MANIFEST} has no {', '.join(missing)}")
    for entry, kind in _ENTRIES.items():
        if type(manifest[entry]) is not kind:
            raise InputError(
                f"`folder` {folder}: `{entry}` in {MANIFEST} is {manifest[entry]!r}; expected "
                f"{kind.__name__}"
            )
    return manifest


def load_packed(folder: Path | str) -> Model:
    """A packed model, ready for `forward` and `evaluate`, without ever being dense.

    Its matrices are `PackedKernel`s, decoded tile by tile inside each product; `unpack_params`
    makes them dense. Every array is checked against its checksum as it is read.

    Args:
        folder: a folder that `pack` wrote.

    Returns:
        The model, with its cached prefix if there is one; its name is the folder, its checksum that
        of `model.safetensors`.

    Raises:
        InputError: not a packed model, a newer format, a damaged or truncated file, or files that
            disagree; arrays by name.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    spec = _spec(folder, manifest["spec"])
    config = load_config(folder)
    path = file_in(folder, SINGLE)
    try:
        handle = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise InputError(f"`{path}` is damaged, truncated or missing: {reason_of(error)}") from None
    with handle:
        _refuse_more_than_fits(config, path, len(handle.keys()))
        parts = _parts(handle.keys(), manifest, folder, list(_tensor_names(config)))
        if path.stat().st_size != manifest["bytes"]:
            raise InputError(
                f"`{path}` has {path.stat().st_size} bytes; {MANIFEST} says {manifest['bytes']}"
            )

        def read(tensor: str) -> Arrays:
            return {
                part: _array(handle, f"{tensor}.{part}" if part else tensor, manifest)
                for part in parts[tensor]
            }

        try:
            params = packed_params(read, spec, config)
        except InputError as error:
            raise InputError(f"`{path}`: {error}") from None
    model = Model(
        config=config,
        params=params,
        tokenizer=read_tokenizer(folder, config, packed=True) if manifest["tokenizer"] else None,
        name=str(folder),
        sha256=checksum(folder, [SINGLE]),
    )
    if (folder / PREFIX_FILE).exists():
        return replace(model, prefix=load_prefix(file_in(folder, PREFIX_FILE), model))
    return model


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"`folder` {folder} is not a packed model: it has no {MANIFEST}")
    return read_json(path)


def _spec(folder: Path, content: dict[str, Any]) -> QuantSpec:
    known = {field.name: type(field.default) for field in fields(QuantSpec)}
    if {name: type(value) for name, value in content.items()} != known:
        raise InputError(
            f"`folder` {folder}: `spec` in {MANIFEST} is {content!r}; expected the entries "
            f"{ {name: kind.__name__ for name, kind in known.items()} }"
        )
    try:
        return QuantSpec(**content)
    except (InputError, TypeError) as error:
        raise InputError(f"`folder` {folder}: `spec` in {MANIFEST}: {reason_of(error)}") from None


def _refuse_more_than_fits(config: ModelConfig, path: Path, arrays: int) -> None:
    """Refuse an architecture too large for its file before memory is taken for it."""
    shapes = leaf_paths(parameter_shapes(config)).values()
    weights, most = sum(math.prod(shape.shape) for shape in shapes), 4 * path.stat().st_size
    if weights > most or config.layers > arrays:
        raise InputError(
            f"`{path}` has {arrays} arrays and room for {most} weights of 2 bits; config.json says "
            f"{weights} weights in {config.layers} layers"
        )


def _tensor_names(config: ModelConfig) -> list[str]:
    shapes = leaf_paths(parameter_shapes(config))
    return [tensor_name(p, layer) for p, s in shapes.items() for layer in layers_of(p, s.shape)]


def _parts(
    names: list[str], manifest: dict[str, Any], folder: Path, tensors: list[str]
) -> dict[str, list[str]]:
    """Tensor -> the parts that the file has of it; refuses what the manifest does not list."""
    if odd := sorted(set(names) ^ set(manifest["sha256"])):
        raise InputError(
            f"`folder` {folder}: {SINGLE} and {MANIFEST} differ in the arrays {odd[:3]}"
        )
    parts: dict[str, list[str]] = {tensor: [] for tensor in tensors}
    for name in names:
        pieces = name.split(".")
        owner = next(
            (t for n in range(len(pieces), 0, -1) if (t := ".".join(pieces[:n])) in parts), None
        )
        if owner is None:
            raise InputError(f"`folder` {folder}: no tensor of the model has the array `{name}`")
        parts[owner].append(name[len(owner) + 1 :])
    return parts


def _array(handle: Any, name: str, manifest: dict[str, Any]) -> np.ndarray:
    try:
        array = handle.get_tensor(name)
    except Exception as error:  # the library raises bare exceptions for dtypes it does not know
        dtype = handle.get_slice(name).get_dtype()
        raise InputError(f"array `{name}` of dtype {dtype} cannot be read") from error
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    if hashlib.sha256(data).hexdigest() != manifest["sha256"][name]:
        raise InputError(f"the file is damaged at array `{name}`: its checksum differs")
    return array
