"""Same input, device and versions: the same bytes. Other batches, devices, cores: rounding only."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_tiny_model
from tests.trust.computed import in_a_process

ROUNDING = 1e-6
"""Most that numbers may differ by, of the largest of their array (measured: 6e-7)."""


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_close(found: Path, expected: Path) -> None:
    """Arrays within rounding; the mask and everything packed with it bit for bit."""
    found_files, expected_files = files_of(found), files_of(expected)
    assert found_files.keys() == expected_files.keys()
    for name in expected_files:
        if name == "packed/manifest.json":  # says how many devices there were
            ours, theirs = (json.loads((of / name).read_text()) for of in (found, expected))
            assert ours | {"device": theirs["device"]} == theirs
            continue
        if not name.startswith(("original", "protected", "square")):
            assert found_files[name] == expected_files[name], name
            continue
        ours, theirs = np.load(found / name), np.load(expected / name)
        for key in theirs.files:
            largest = np.abs(theirs[key]).max()
            np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=ROUNDING * largest)


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    model = save_tiny_model(tmp_path / "model", layers=2, width=16)
    first, second = (in_a_process(model, tmp_path / name) for name in ("first", "second"))
    assert files_of(first) == files_of(second)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What the shipped model gives."""
    return in_a_process("reference", tmp_path_factory.mktemp("reference") / "base")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"batch_tokens": 300}, {"devices": 8}, {"cores": 1}], ids=lambda c: next(iter(c))
)
def test_batches_devices_and_cores_change_rounding_and_no_mask(reference, tmp_path, changes):
    assert_close(in_a_process("reference", tmp_path / "other", **changes), reference)
