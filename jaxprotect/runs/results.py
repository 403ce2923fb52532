"""A run folder: what was asked, every result as a row, nothing half written, safe to resume.

manifest.json    configuration, model, texts, versions, device
results.jsonl    one row per variant and language, append-only, in the order of the run
nats/<variant>.npy   [languages, sentences] float64 nats, with their checksum
nats/sizes.npy   tokens, bytes and characters of the sentences, same layout
lock             held while a process writes
"""

import contextlib
import csv
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprotect.disk import locked, make_folder, writing
from jaxprotect.errors import InputError, did_you_mean_folder
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.hosts import is_first, told
from jaxprotect.models.config import complete
from jaxprotect.models.folders import file_in
from jaxprotect.models.json_files import parse_json, read_json
from jaxprotect.products import matmul_precision
from jaxprotect.runs.npy_files import checked_npy, load_array

FIXED = ("config", "model", "texts", "experiments")
"""Manifest entries that a resume must share with the run it continues."""

_STARTED = ("lock", ".manifest.json.tmp")
"""What a run has that was killed before it had a manifest."""

FREE = ("config.batch_tokens", "config.revision")
"""What may change on the way.

Numbers depend on the batch by rounding only, and memory may run out. A branch may move: a run that
began with its name goes on with that of the commit, which `model.revision` has.
"""

ORIGINAL = "original"
"""The name under which the unquantized model's nats are kept."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open or finished run.

    Args:
        folder: where it lives.
        manifest: what was asked, and on what.
        rows: finished rows, in order.
    """

    folder: Path
    manifest: dict[str, Any]
    rows: tuple[dict[str, Any], ...]

    @property
    def has_original(self) -> bool:
        """Whether the unquantized model has been measured."""
        return (self.folder / "nats" / f"{ORIGINAL}.npy").exists()

    @property
    def variants(self) -> list[str]:
        """Names of the finished variants, in order."""
        return list(dict.fromkeys(row["variant"] for row in self.rows))

    def evaluation(self, variant: str) -> Evaluation:
        """A finished variant's evaluation, or with `ORIGINAL` the unquantized model's."""
        texts = self.manifest["texts"]
        shape = len(texts["languages"]), len(texts["ids"])
        nats = self._numbers(variant, np.float64, shape)
        tokens, sizes, characters = self._numbers("sizes", np.int64, (3, *shape))

        def by_language(values: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(texts["languages"], values, strict=True))

        return Evaluation(
            nats=by_language(nats),
            tokens=by_language(tokens),
            bytes=by_language(sizes),
            characters=by_language(characters),
            ids=tuple(texts["ids"]),
            vocab_size=self.manifest["model"]["architecture"]["vocab_size"],
        )

    def _numbers(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        values = load_array(self.folder, f"nats/{name}.npy")
        if (values.dtype, values.shape) != (dtype, shape):
            raise InputError(
                f"`{self.folder / 'nats' / name}.npy` is {values.dtype} of shape {values.shape}; "
                f"expected {np.dtype(dtype)} of shape {shape}, as the manifest has it"
            )
        return values


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("jaxprotect", "jax", "jaxlib", "numpy", "transformers", "tokenizers")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def device() -> dict[str, Any]:
    """The device that computes, and the precision of its float32 products."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.device_count(),
        "matmul_precision": matmul_precision(),
    }


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or as before: temporary file, fsync, rename."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys as a table."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def to_json(value: Any, **options: Any) -> str:
    """JSON text that refuses NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **options)


@contextlib.contextmanager
def open_run(folder: Path, manifest: dict[str, Any]) -> Iterator[Run]:
    """Start a run, or continue the one that lies in the folder.

    Args:
        folder: made if it is not there.
        manifest: what is asked now, with the entries `FIXED`.

    Yields:
        The run with what is finished so far; the lock is held until the block ends.

    Raises:
        InputError: the folder holds another run or other files, another process writes to it, or
            it cannot be written.
    """
    make_folder(folder)
    path = folder / "manifest.json"
    wanted = json.loads(to_json(manifest | {"versions": versions(), "device": device()}))

    def begin() -> dict[str, Any]:
        if path.exists():
            _check_same(folder, read_json(path), wanted)
        else:
            strangers = sorted(p.name for p in folder.iterdir() if p.name not in _STARTED)
            if strangers:
                raise InputError(
                    f"`out` {folder} has no manifest.json but holds {strangers[:5]}; "
                    "give a new or empty folder"
                )
            write_atomically(path, to_json(wanted, indent=1).encode())
        _drop_partial_rows(folder, wanted["texts"]["languages"])
        run = read_run(folder)
        return {"manifest": run.manifest, "rows": run.rows}

    with locked(folder / "lock", f"`out` {folder}"):
        found = told(begin)
        if not is_first():  # whose copy of the folder is from before the lock
            write_atomically(path, to_json(found["manifest"], indent=1).encode())
            write_atomically(folder / "results.jsonl", _lines(found["rows"]))
        yield Run(folder=folder, manifest=found["manifest"], rows=tuple(found["rows"]))


def read_run(folder: Path) -> Run:
    """A run as it lies on disk.

    Args:
        folder: a run folder.

    Returns:
        Manifest and rows.

    Raises:
        InputError: no run there, or a file of it is damaged.
    """
    path = folder / "manifest.json"
    if not path.exists():
        meant = did_you_mean_folder(folder, "results.jsonl")
        raise InputError(f"{folder} is not a run folder: it has no manifest.json{meant}")
    manifest, rows = read_json(path), []
    _check_manifest(manifest, path)
    results = folder / "results.jsonl"
    for number, line in enumerate(_result_lines(folder), 1):
        row = parse_json(line, f"{results}:{number}")
        if not isinstance(row, dict) or not isinstance(row.get("variant"), str):
            raise InputError(f"`{results}:{number}` is no row of a variant")
        rows.append(row)
    return Run(folder=folder, manifest=manifest, rows=tuple(rows))


def append_variant(
    run: Run, variant: str, evaluation: Evaluation, rows: list[dict[str, Any]]
) -> Run:
    """Add a finished variant: its nats first, then its rows in one durable write.

    Args:
        run: the open run.
        variant: a name that is not in it yet.
        evaluation: its nats.
        rows: one per language.

    Returns:
        The run with the variant.
    """
    _save(run.folder / "nats" / f"{variant}.npy", evaluation.nats)
    _append(run.folder / "results.jsonl", _lines(rows))
    return Run(folder=run.folder, manifest=run.manifest, rows=(*run.rows, *rows))


def save_original(run: Run, evaluation: Evaluation) -> None:
    """Write the unquantized model's nats, and the sizes of the sentences."""
    sizes = (evaluation.tokens, evaluation.bytes, evaluation.characters)
    stacked = np.stack([np.stack(list(of.values())) for of in sizes]).astype(np.int64)
    write_atomically(run.folder / "nats" / "sizes.npy", checked_npy(stacked))
    _save(run.folder / "nats" / f"{ORIGINAL}.npy", evaluation.nats)


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(to_json(row) + "\n" for row in rows).encode()


def _append(path: Path, data: bytes) -> None:
    """Add to a file durably, or leave it as it was."""
    with writing(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def _save(path: Path, nats: dict[str, np.ndarray]) -> None:
    write_atomically(path, checked_npy(np.stack(list(nats.values())).astype(np.float64)))


def _result_lines(folder: Path) -> list[bytes]:
    """The whole lines; what follows the last one was never finished."""
    path = file_in(folder, "results.jsonl")
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _check_manifest(manifest: dict[str, Any], path: Path) -> None:
    """Refuse a manifest without what every reader of a run relies on."""
    texts, model = manifest.get("texts"), manifest.get("model")
    texts = texts if isinstance(texts, dict) else {}
    architecture = model.get("architecture") if isinstance(model, dict) else None
    lists = (("languages", str), ("ids", int))
    for name, kind in lists:
        values = texts.get(name)
        whole = isinstance(values, list) and all(type(value) is kind for value in values)
        if not whole or not values or len(set(values)) < len(values):
            raise InputError(f"`{path}`: `texts.{name}` is no list of different {kind.__name__}")
    size = architecture.get("vocab_size") if isinstance(architecture, dict) else None
    if type(size) is not int or size < 1:
        raise InputError(f"`{path}`: `model.architecture.vocab_size` is {size!r}; allowed: above 0")


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to mix two runs; the message lists what differs."""
    differences = []
    before, now = comparable(before), comparable(now)
    for entry in FIXED:
        old, new = _flat(before.get(entry), entry), _flat(now.get(entry), entry)
        for name in sorted(old.keys() | new.keys()):
            if name not in FREE and old.get(name) != new.get(name):
                differences.append(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now")
    if differences:
        raise InputError(
            f"`out` {folder} holds another run; give another folder. " + "; ".join(differences[:6])
        )


def comparable(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest whose architecture has all of today's fields, so that older ones still fit."""
    model = manifest.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("architecture"), dict):
        return manifest
    return manifest | {"model": model | {"architecture": complete(model["architecture"])}}


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}").items()}


def _drop_partial_rows(folder: Path, languages: list[str]) -> None:
    """Cut what a killed process left of a variant: a torn line, or fewer rows than languages."""
    path = folder / "results.jsonl"
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    kept = whole[: len(whole) - len(whole) % len(languages)]
    if sum(map(len, kept)) != len(data):
        write_atomically(path, b"".join(kept))
