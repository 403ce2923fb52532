"""Meshes: the same numbers on one device and on several, and what no mesh can be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models import meshes
from jaxprotect.models.census import census_of
from jaxprotect.models.mesh_shapes import MeshShape, check_mesh, choose_shape, parse_mesh
from tests.tiny import CONFIG
from tests.trust.children import save_inputs

EXACT = ("magnitude", "random", "scores", "guided", "quantized", "packed")


def found_on(folder: Path, *meshes: str) -> dict:
    """What a process with eight devices says of some meshes."""
    save_inputs(folder)
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.mesh_child", str(folder), *meshes],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(found: dict, mesh: str) -> None:
    """One device and the mesh agree, and no device has more than its part."""
    shape = parse_mesh(mesh)
    for name in EXACT:
        assert found["same"][name], name
    for name, close in found["close"].items():
        assert close, name
    assert found.get("differ", 0) <= 0.001  # sensitivities are the same to rounding
    assert found["stays"]
    for name, share in found["shares"].items():
        # All but norms, biases and positions is split.
        assert 1 / shape.model <= share <= 1 / shape.model + 0.05, name


def test_a_mesh_finds_what_one_device_finds(tmp_path):
    mesh = "data=2,model=2"
    check(found_on(tmp_path, mesh)[mesh], mesh)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_and_eight_devices_find_what_one_finds(tmp_path):
    meshes = ("data=2,model=1", "data=1,model=2", "data=8,model=1", "data=4,model=2")
    report = found_on(tmp_path, "--statistics", *meshes)
    for mesh in meshes:
        assert {"statistics", "inputs"} <= report[mesh]["close"].keys()
        check(report[mesh], mesh)


@pytest.mark.parametrize("text", ["data=4,model=2", "model=2,data=4", " data=4,model=2 "])
def test_a_mesh_in_words(text):
    assert parse_mesh(text) == MeshShape(data=4, model=2)
    assert str(parse_mesh(text)) == "data=4,model=2"


@pytest.mark.parametrize(
    "text", ["", "4", "4x2", "data=4 model=2", "data=0", "data=-1", "data=2,data=2", "tensor=2"]
)
def test_other_words_are_refused(text):
    with pytest.raises(InputError, match=r"`mesh` is .*; allowed is such as data=4,model=2"):
        parse_mesh(text)


@pytest.mark.parametrize(
    ("mesh", "devices", "message"),
    [
        ("data=2,model=2", 8, r"`mesh` is data=2,model=2, which is 4 devices; there are 8"),
        ("data=1,model=3", 3, r"`mesh` has model=3, which does not divide the model's 4 heads"),
        ("model=8", 8, r"does not divide the model's 4 heads; allowed are 1, 2, 4"),
    ],
)
def test_meshes_that_do_not_fit(mesh, devices, message):
    with pytest.raises(InputError, match=message):
        check_mesh(parse_mesh(mesh), CONFIG, devices)


def test_a_mesh_is_chosen_by_the_memory_of_a_device_of_this_host(monkeypatch):
    asked = []
    monkeypatch.setattr(meshes, "device_bytes", lambda: asked.append(1))
    assert meshes.make_mesh(CONFIG, devices=jax.devices()[:1]).size == 1
    assert asked


def test_the_mesh_has_as_few_devices_per_copy_as_have_room():
    bloom = census_of("bigscience/bloom-560m").config
    weights = 4 * 559_214_592
    assert choose_shape(bloom, 8, None) == MeshShape(data=8, model=1)
    assert choose_shape(bloom, 8, 8 * weights) == MeshShape(data=8, model=1)
    assert choose_shape(bloom, 8, 8 * weights - 1) == MeshShape(data=4, model=2)
    assert choose_shape(bloom, 8, 1) == MeshShape(data=1, model=8)
    # 6 devices, 16 heads: 3 and 6 do not divide them.
    assert choose_shape(bloom, 6, 1) == MeshShape(data=3, model=2)
