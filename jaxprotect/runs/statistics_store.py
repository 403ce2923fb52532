"""Sensitivity statistics on disk: one Orbax save per language, checksummed, safe to resume.

manifest.json    model, texts, options, versions, device with the precision of its products; per
                 finished language its counts and a sha256 per leaf
lock             held while a process measures
<language>/      the trees gradient, absolute, square and inputs, each an Orbax save of its own

Squares span more than float16's range, so that the smaller precision is bfloat16.
"""

import contextlib
import functools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxprotect.disk import locked, make_folder, writing
from jaxprotect.errors import InputError, did_you_mean_folder, first_line_of
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.host_arrays import on_host, told_tree
from jaxprotect.hosts import told
from jaxprotect.models.folders import file_in
from jaxprotect.models.json_files import read_json
from jaxprotect.models.meshes import mesh_of, place
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.progress import progress
from jaxprotect.runs.orbax_trees import load_tree, require_checksums, save_tree
from jaxprotect.runs.results import comparable, device, to_json, versions, write_atomically
from jaxprotect.selection.sensitivity import BATCH_TOKENS, Labels, language_statistics
from jaxprotect.selection.statistics import InputStatistics, Statistics
from jaxprotect.trees import leaf_paths

Precision = Literal["float32", "bfloat16"]
PARTS = ("gradient", "absolute", "square", "inputs")
FIXED = ("model", "texts", "labels", "seed", "precision")


@dataclass(frozen=True, kw_only=True)
class StatisticsStore:
    """An open store.

    Args:
        folder: where it lies.
        manifest: what it holds statistics of.
        model: gives the shapes.
    """

    folder: Path
    manifest: dict[str, Any]
    model: Model

    @property
    def languages(self) -> tuple[str, ...]:
        """Finished languages, in the order of the texts."""
        done = self.manifest["languages"]
        return tuple(name for name in self.manifest["texts"]["languages"] if name in done)

    @property
    def nats(self) -> dict[str, float]:
        """Language -> the original model's nats over the sentences of the statistics."""
        return {name: self.manifest["languages"][name]["nats"] for name in self.languages}

    def save(self, language: str, statistics: Statistics, nats: float) -> "StatisticsStore":
        """Write one language; the manifest names it only when all of it is there."""
        dtype = jnp.dtype(self.manifest["precision"])
        temporary, final = self.folder / f".{language}.tmp", self.folder / language

        def start() -> None:
            for path in (temporary, final):
                shutil.rmtree(path, ignore_errors=True)
            # Orbax waits for minutes where it cannot make this folder itself.
            make_folder(temporary)

        def write(part: str, tree: dict) -> dict[str, str]:
            with writing(final):
                return save_tree(temporary.resolve() / part, tree)

        def end() -> None:
            with writing(final):
                temporary.rename(final)

        told(start)
        sums = {}
        for part in PARTS:
            tree = _plain(statistics, part)
            if part != "inputs":
                tree = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), tree)
            tree = jax.tree.map(on_host, tree)
            sums[part] = told(functools.partial(write, part, tree))
        told(end)
        entry = {
            "sentences": statistics.sentences,
            "tokens": statistics.tokens,
            "nats": nats,
            "sha256": sums,
        }
        languages = self.manifest["languages"] | {language: entry}
        store = StatisticsStore(
            folder=self.folder, manifest=self.manifest | {"languages": languages}, model=self.model
        )
        text = to_json(store.manifest, indent=1).encode()
        write_atomically(self.folder / "manifest.json", text)
        return store

    def load(self, language: str, parts: Sequence[str] = PARTS) -> Statistics:
        """Read one language back, in float32, checking what is read.

        Args:
            language: a finished one.
            parts: of `gradient`, `absolute`, `square`, `inputs`; the others are left empty.

        Returns:
            The statistics.

        Raises:
            InputError: not finished, or damaged; names language and leaf.
        """
        if language not in self.manifest["languages"]:
            there = ", ".join(self.languages) or "none yet"
            raise InputError(f"`language` is {language!r}; {self.folder} has {there}")
        entry = self.manifest["languages"][language]
        loaded = {part: self._part(language, part) if part in parts else {} for part in PARTS}
        inputs = {
            path.replace("|", "/"): InputStatistics(**leaves)
            for path, leaves in loaded["inputs"].items()
        }
        return Statistics(
            gradient=loaded["gradient"],
            absolute=loaded["absolute"],
            square=loaded["square"],
            inputs=inputs,
            sentences=entry["sentences"],
            tokens=entry["tokens"],
        )

    def square(self, language: str) -> dict:
        """One language's squared gradients."""
        return self.load(language, ("square",)).square

    def _part(self, language: str, part: str) -> dict:
        tree = told_tree(functools.partial(self._read, language, part))
        mesh = mesh_of(self.model.params)
        if mesh is None or part == "inputs":
            return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)
        # From the host: no device has room for a whole leaf to spare.
        return place(jax.tree.map(lambda leaf: leaf.astype(np.float32), tree), mesh)

    def _read(self, language: str, part: str) -> dict:
        path = self.folder / language / part
        try:
            file_in(self.folder, language)
            for file in path.rglob("*"):
                file_in(self.folder, str(file.relative_to(self.folder)))
            leaves = leaf_paths(parameter_shapes(self.model.config)).values()
            tree = load_tree(path.resolve(), max(math.prod(leaf.shape) for leaf in leaves))
        except Exception as error:  # Orbax raises whatever its layers do
            raise InputError(f"{path} cannot be read: {first_line_of(error)}") from None
        expected = self.manifest["languages"][language]["sha256"][part]
        require_checksums(tree, expected, f"{path}: {language}")
        return tree


def open_store(
    folder: Path,
    *,
    model: Model,
    texts_description: Mapping[str, Any],
    labels: Labels,
    seed: int,
    precision: Precision,
) -> StatisticsStore:
    """Start a store, or continue the one in the folder.

    Args:
        folder: made if it is not there.
        model: whose statistics.
        texts_description: source, sha256, languages and ids of the sentences.
        labels: see `language_statistics`.
        seed: of drawn labels.
        precision: of the trees on disk.

    Returns:
        The store, with the languages finished so far.

    Raises:
        InputError: the folder holds statistics of something else, or cannot be written.
    """
    wanted = {
        "model": {"sha256": model.sha256, "architecture": asdict(model.config)},
        "texts": dict(texts_description),
        "labels": labels,
        "seed": seed,
        "precision": precision,
    }
    wanted = json.loads(to_json(wanted))
    path = folder / "manifest.json"
    if not told(path.exists):
        make_folder(folder)
        with _locked(folder):
            if not told(path.exists):
                made_by = {"versions": versions(), "device": device(), "languages": {}}
                write_atomically(path, to_json(wanted | made_by, indent=1).encode())
    manifest = _told_manifest(path)
    before = comparable(manifest)
    for entry in FIXED:
        if before.get(entry) != wanted[entry]:
            raise InputError(
                f"{folder} holds statistics of another {entry} ({_short(manifest.get(entry))}, "
                f"now {_short(wanted[entry])}); give another folder"
            )
    _check_manifest(manifest, path)
    return StatisticsStore(folder=folder, manifest=manifest, model=model)


def read_store(folder: Path, model: Model) -> StatisticsStore:
    """Open a store for reading.

    Args:
        folder: a store.
        model: the model it must belong to.

    Returns:
        The store.

    Raises:
        InputError: no store there, or one of another model.
    """
    path = folder / "manifest.json"
    if not told(path.exists):
        meant = did_you_mean_folder(folder, "manifest.json")
        raise InputError(f"{folder} holds no statistics: it has no manifest.json{meant}")
    manifest = _told_manifest(path)
    _check_manifest(manifest, path)
    if manifest["model"]["sha256"] != model.sha256:
        raise InputError(f"{folder} holds statistics of another model than {model.name}")
    return StatisticsStore(folder=folder, manifest=manifest, model=model)


def measure_statistics(
    store: StatisticsStore,
    model: Model,
    encoded: Encoded,
    nats: Mapping[str, float],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> StatisticsStore:
    """Measure and save every language that the store does not have; one in memory at a time.

    Args:
        store: the store.
        model: the unquantized model.
        encoded: the sentences in tokens.
        nats: language -> the model's nats over them.
        batch_tokens: most tokens of one batch; the default is the largest.

    Returns:
        The complete store.

    Raises:
        InputError: another process measures into the folder, a full disk, or too little memory;
            languages that are finished stay.
    """
    with _locked(store.folder):
        # Another process may have finished languages since the store was opened.
        store = replace(store, manifest=_told_manifest(store.folder / "manifest.json"))
        todo = [name for name in encoded.languages if name not in store.languages]
        for language in progress(todo, desc="sensitivity", unit="language"):
            statistics = language_statistics(
                model.params,
                encoded,
                model.config,
                language=language,
                labels=store.manifest["labels"],
                seed=store.manifest["seed"],
                batch_tokens=min(batch_tokens, BATCH_TOKENS),
            )
            store = store.save(language, statistics, nats[language])
    return store


def _locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    return locked(folder / "lock", f"`statistics` {folder}")


def _told_manifest(path: Path) -> dict[str, Any]:
    """As it is now; what other hosts have is a copy from before."""
    return told(lambda: read_json(path))


def _check_manifest(manifest: dict[str, Any], path: Path) -> None:
    """Refuse a manifest without what reading a store relies on."""
    model, texts, done = (manifest.get(name) for name in ("model", "texts", "languages"))
    if not isinstance(model, dict) or "sha256" not in model:
        raise InputError(f"`{path}` has no `model.sha256`")
    languages = texts.get("languages") if isinstance(texts, dict) else None
    if not isinstance(languages, list) or not all(isinstance(name, str) for name in languages):
        raise InputError(f"`{path}`: `texts.languages` is no list of names")
    if not isinstance(done, dict):
        raise InputError(f"`{path}` has no `languages`")
    for name, entry in done.items():
        kinds = {"sentences": int, "tokens": int, "nats": (int, float), "sha256": dict}
        whole = isinstance(entry, dict) and all(
            isinstance(entry.get(key), kind) and not isinstance(entry[key], bool)
            for key, kind in kinds.items()
        )
        sums = entry["sha256"] if whole else {}
        if not all(isinstance(sums.get(part), dict) for part in PARTS):
            raise InputError(f"`{path}`: the entry of {name} lacks counts or checksums")


def _plain(statistics: Statistics, part: str) -> dict:
    """A part as nested dicts of arrays; paths of `inputs` must not look like folders to Orbax."""
    if part != "inputs":
        return getattr(statistics, part)
    return {path.replace("/", "|"): dict(vars(of)) for path, of in statistics.inputs.items()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
