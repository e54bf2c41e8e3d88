"""Devices and modules of layers, as flags name them."""

import logging
import os
import sys
from types import SimpleNamespace

import pytest

from layerforge import device
from layerforge.cli import machine
from layerforge.device import cuda
from layerforge.errors import DefinitionError, DeviceError


@pytest.mark.parametrize("asked, mode", [("cpu", None), ("auto", None), ("auto", "CPU"), ("auto", "GPU")])
def test_the_cpu(asked, mode):
    assert machine.choose_device(asked, mode) is device.cpu


def test_auto_says_that_there_is_no_gpu_for_a_solver_that_asks_for_one(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("layerforge"), "propagate", True)
    machine.choose_device("auto", "GPU")
    assert caplog.messages == [f"The solver says solver_mode: GPU, but it trains on the CPU: {cuda.NO_DRIVER}"]


def test_auto_says_why_it_takes_the_cpu_where_there_is_a_driver(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("layerforge"), "propagate", True)
    monkeypatch.setattr(cuda, "libcuda", lambda: SimpleNamespace(cuDriverGetVersion=lambda place: None))
    monkeypatch.setattr(cuda, "driver_version", lambda: (12, 4))
    monkeypatch.setattr(cuda.libraries, "driver", None)  # which is set now, and must not stay
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(cuda, "GPUS", {})
    assert machine.choose_device("auto") is device.cpu
    (said,) = caplog.messages
    assert said.startswith('NVIDIA\'s driver is installed, but the CPU is used: device "gpu": ')
    assert said.endswith("`pip install 'layerforge[cuda12x]'`")


def test_auto_takes_a_gpu_that_is_there(monkeypatch):
    asked = []
    monkeypatch.setattr(device, "get", lambda name: asked.append(name) or name)
    assert machine.choose_device("auto", None) == "gpu"
    assert machine.choose_device("auto", "GPU") == "gpu"
    assert machine.choose_device("auto", "CPU") == "cpu"
    assert machine.choose_device("all") == "gpu"
    assert {machine.choose_device(asked) for asked in ("3", "gpu:3", "cuda:3")} == {"gpu:3"}


@pytest.mark.parametrize(
    "asked, text",
    [
        ("gpu", cuda.NO_DRIVER),
        ("all", cuda.NO_DRIVER),
        ("0", cuda.NO_DRIVER),
        ("gpu:9", cuda.NO_DRIVER),
        ("gpu:-1", 'device "gpu:-1": it must be auto, cpu, gpu or the number of a GPU'),
        ("0,1", 'device "0,1": a run takes one GPU; name one of them'),
        ("tpu", 'device "tpu": it must be auto, cpu, gpu or the number of a GPU'),
    ],
)
def test_devices_that_are_not_there(asked, text):
    with pytest.raises(DeviceError) as caught:
        machine.choose_device(asked)
    assert str(caught.value) == text


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["helpful.py", "./helpful.py", "helpful"])
def test_import(here, name):
    (here / "helpful.py").write_text("VALUE = 3\n")
    assert machine.import_one(name).VALUE == 3
    assert sys.modules["helpful"].VALUE == 3


def test_import_from_another_folder_and_only_once(here):
    (here / "inner").mkdir()
    (here / "inner" / "counted.py").write_text("import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n")
    try:
        for _ in range(2):
            machine.import_layers(["inner/counted.py,inner/counted.py"])
        assert sys.counted == 1
    finally:
        del sys.counted


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("none.py", None, "--import none.py: there is no such file"),
        (
            "no_such_module",
            None,
            '--import no_such_module: there is no module "no_such_module" here or where Python looks',
        ),
        ("bad.py", "x = 1\ny = z\n", "--import bad.py: bad.py:2: NameError: name 'z' is not defined"),
        (
            "odd.py",
            "import no_such_module\n",
            "--import odd.py: odd.py:1: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            "dim",
            "import no_such_module\n",
            "--import dim: dim.py:1: ModuleNotFoundError: No module named 'no_such_module'",
        ),
    ],
)
def test_import_what_cannot_be(here, name, content, text):
    if content is not None:
        (here / f"{name.removesuffix('.py')}.py").write_text(content)
    with pytest.raises(DefinitionError) as caught:
        machine.import_one(name)
    assert str(caught.value) == text
    assert os.path.splitext(name)[0] not in sys.modules


def test_import_what_is_no_python(here):
    (here / "torn.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(DefinitionError) as caught:
        machine.import_one("torn.py")
    assert str(caught.value).startswith(f"--import torn.py: {here}/torn.py:2: SyntaxError: ")


def test_errors_of_layerforge_pass_unchanged(here):
    (here / "twice.py").write_text(
        "from dataclasses import dataclass\nimport layerforge\n\n"
        "class ReLU2(layerforge.Layer):\n    @dataclass\n"
        "    class Options:\n        field = 'relu_param'\n        x: int = 0\n"
    )
    with pytest.raises(DefinitionError) as caught:
        machine.import_one("twice.py")
    assert str(caught.value) == (
        '"relu_param" is a field of LayerParameter already. Give twice.ReLU2.Options another field.'
    )
