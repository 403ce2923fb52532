"""The banner says what is known, before the weights are read, and once for all hosts."""

import sys
from types import SimpleNamespace

import pytest

from experiments import exp_011
from experiments.command_line import main as experiment
from experiments.common import load_model_of
from jaxprotect import hosts, progress
from jaxprotect.cli import main
from jaxprotect.errors import InputError
from jaxprotect.models.mesh_shapes import MeshShape
from jaxprotect.runs import banner
from jaxprotect.runs.packed_loading import load_placed
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def machine(monkeypatch):
    """Makes the devices of another machine, or of several."""

    def make(platform, kind, count, *, memory=None, among=1):
        devices = [SimpleNamespace(platform=platform, device_kind=kind)] * count
        monkeypatch.setattr(banner.jax, "devices", lambda: devices)
        monkeypatch.setattr(banner, "device_bytes", lambda: memory)
        monkeypatch.setattr(hosts, "count", lambda: among)
        monkeypatch.setattr(banner, "versions", lambda: {"jaxprotect": "0.1.0", "jax": "0.10.2"})

    return make


@pytest.mark.parametrize(
    ("devices", "mesh", "said"),
    [
        (("cpu", "cpu", 1), None, "1 x CPU"),
        (("cpu", "cpu", 2), (2, 1), "2 x CPU · mesh data=2,model=1"),
        (("gpu", "NVIDIA L4", 1, 17 * 2**30), None, "1 x NVIDIA L4, 17 GiB"),
        (
            ("tpu", "TPU v5", 8, 95.74 * 2**30, 2),
            (4, 2),
            "8 x TPU v5 on 2 hosts, 95.7 GiB each · mesh data=4,model=2",
        ),
        (("tpu", "TPU v4", 4, 32 * 2**30), None, "1 of 4 x TPU v4, 32 GiB each"),
    ],
)
def test_it_says_what_is_known(machine, devices, mesh, said):
    platform, kind, count, *rest = devices
    machine(platform, kind, count, **dict(zip(("memory", "among"), rest, strict=False)))
    made = mesh and MeshShape(data=mesh[0], model=mesh[1])
    assert banner.banner(made) == f"jaxprotect 0.1.0 · jax 0.10.2 · {said}"


def test_the_first_host_says_it_alone(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_first", lambda: False)
    banner.print_banner(None)
    assert capsys.readouterr() == ("", "")


def test_it_comes_before_the_weights_are_read(tiny, monkeypatch, capsys):
    def stop(*_):
        raise InputError("read")

    monkeypatch.setattr("jaxprotect.models.hub.load_params", stop)
    with pytest.raises(InputError, match="read"):
        load_placed(tiny)
    assert capsys.readouterr().err == f"{banner.banner(None)}\n"


@pytest.mark.parametrize("weights", ["memory", "files"])
def test_commands_that_compute_have_it_on_standard_error(tiny, weights, capsys):
    words = ["--model", tiny, "--languages", "eng_Latn", "--draws", "99", "--json"]
    main(["evaluate", *words, "--weights", weights])
    said = capsys.readouterr()
    assert said.err == f"{banner.banner(None)}\n"
    assert said.out.startswith("[")


def test_so_have_experiments(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["exp_011", "--model", tiny, "--json"])
    experiment(
        exp_011.Config, lambda config: [{"layers": load_model_of(config.setup).config.layers}]
    )
    said = capsys.readouterr()
    assert said.err == f"{banner.banner(None)}\n"
    assert said.out.startswith("{")


@pytest.fixture
def no_devices(monkeypatch):
    def never(*_):
        raise AssertionError("devices are started")

    monkeypatch.setattr(banner.jax, "devices", never)


def test_commands_that_do_not_compute_have_none(no_devices, capsys):
    main(["census"])
    assert capsys.readouterr().err == ""


def test_a_mistake_in_the_texts_is_one_line(no_devices, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--languages", "xxx_Xxxx"])
    assert len(capsys.readouterr().err.splitlines()) == 1
