"""One tree of arrays as an Orbax save, with a checksum per leaf.

Orbax loads a flipped byte without a word, hence the checksums. It also writes down which devices an
array was on, and reads it only where they are: all arrays are NumPy's here.
"""

import contextlib
import hashlib
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as checkpoint
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.handlers.composite_checkpoint_handler import CompositeOptions

from jaxprotect import hosts
from jaxprotect.errors import InputError
from jaxprotect.trees import leaf_paths


def save_tree(path: Path, tree: dict) -> dict[str, str]:
    """Write nested dicts of arrays.

    Args:
        path: a new folder, absolute.
        tree: the arrays, in this host's memory.

    Returns:
        Leaf path -> sha256 of its bytes.
    """
    with _silent_orbax():
        _save_alone(path, tree) if hosts.several() else ocp.save(str(path), tree)
    return checksums(tree)


def load_tree(path: Path, largest: int) -> dict:
    """Read what `save_tree` wrote; what Orbax raises passes unchanged.

    Args:
        path: its folder, absolute.
        largest: most numbers that a leaf may have.

    Returns:
        The arrays, in this host's memory, also those that were saved from devices.

    Raises:
        InputError: a larger leaf.
    """
    with warnings.catch_warnings():
        # Shapes come from the file; the checksums say whether they are right.
        warnings.filterwarnings("ignore", "Sharding info not provided")
        stored = ocp.metadata(str(path)).metadata
        # A few bytes can promise an array of any size, which Orbax would fill with zeros.
        for name, leaf in leaf_paths(stored).items():
            if max(math.prod(leaf.shape), math.prod(leaf.storage_metadata.chunk_shape)) > largest:
                raise InputError(f"{name} has shape {leaf.shape}; the model has no leaf that large")
        with _silent_orbax(), _alone():
            return ocp.load(str(path), jax.tree.map(_numpy, stored))


def _numpy(leaf: Any) -> np.ndarray:
    """Asks Orbax for a NumPy array of that shape and type; takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def checksums(tree: Any) -> dict[str, str]:
    """Leaf path -> sha256 of its bytes."""

    def of(leaf: Any) -> str:
        return hashlib.sha256(np.ascontiguousarray(np.asarray(leaf)).tobytes()).hexdigest()

    return {path: of(leaf) for path, leaf in leaf_paths(tree).items()}


def require_checksums(tree: Any, expected: dict[str, str], what: str) -> None:
    """Refuse a tree that is not what was saved.

    Args:
        tree: as it was read.
        expected: what `save_tree` gave.
        what: for the message, file and name.

    Raises:
        InputError: other leaves, or a damaged one.
    """
    found = checksums(tree)
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())
        raise InputError(f"{what} differs from its manifest in the leaves {odd}")
    for leaf, checksum in found.items():
        if checksum != expected[leaf]:
            raise InputError(f"{what} is damaged at {leaf}: its checksum differs")


def _save_alone(path: Path, tree: Any) -> None:
    """As `ocp.save`, which waits for all hosts, whoever is said to take part."""
    options = CompositeOptions(multiprocessing_options=_first())
    handler = checkpoint.CompositeCheckpointHandler("state", composite_options=options)
    with checkpoint.Checkpointer(handler, multiprocessing_options=_first()) as writer:
        writer.save(str(path), checkpoint.args.Composite(state=checkpoint.args.PyTreeSave(tree)))


def _first() -> Any:
    return checkpoint.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="jaxprotect"
    )


def _alone() -> contextlib.AbstractContextManager[Any]:
    """Orbax of a job of several hosts waits for all of them, unless it is told who takes part."""
    if not hosts.several():
        return contextlib.nullcontext()
    return ocp.Context(multiprocessing_options=_first())


@contextlib.contextmanager
def _silent_orbax() -> Iterator[None]:
    """Orbax logs a traceback from each of its threads, and raises the error all the same."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")
            yield
    finally:
        logger.setLevel(level)
