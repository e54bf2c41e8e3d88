"""The name caffe: scripts and Python layers that import it, and the refusal where Caffe itself is there."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import layerforge
from layerforge import as_caffe
from layerforge.errors import LayerForgeError

ROOT = Path(layerforge.__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_alias():
    """Each test begins and ends without the name."""
    as_caffe.uninstall()
    yield
    as_caffe.uninstall()
    sys.modules.pop("caffe", None)


def run(*argv, cwd, path=(), **environment):
    """``python -m layerforge.as_caffe`` in another process, with folders ahead on its path."""
    folders = [*map(str, path), str(ROOT)]
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "layerforge.as_caffe", *argv]
    return subprocess.run(command, cwd=cwd, env=everything, capture_output=True, text=True, check=False)


SCRIPT = """
import sys
from helper import GREETING
import caffe
import caffe.io, caffe.draw, caffe.classifier, caffe.detector, caffe.coord_map, caffe.net_spec, caffe.pycaffe
import caffe.proto.caffe_pb2 as pb2
from caffe import layers as L, params as P, NetSpec, to_proto
from caffe.proto import caffe_pb2
from caffe.pycaffe import Net, SGDSolver
from caffe._caffe import set_mode_cpu
from caffe.coord_map import crop
from google.protobuf import text_format

set_mode_cpu()
n = NetSpec()
n.data = L.Input(shape=dict(dim=[1, 1, 4, 4]))
n.pool = L.Pooling(n.data, pool=P.Pooling.AVE, kernel_size=2, stride=2)
net = text_format.Merge(str(n.to_proto()), caffe_pb2.NetParameter())
open("net.prototxt", "w").write(str(net))
net = caffe.Net("net.prototxt", caffe.TEST)
net.blobs["data"].data[...] = 3
print(GREETING, sys.argv, net.forward()["pool"].ravel().tolist(), Net is caffe.Net, pb2 is caffe.proto.caffe_pb2)
print(__name__, __file__)
caffe.log("said by the script")
sys.exit(3)
"""


def test_script(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "script.py").write_text(SCRIPT)
    (tmp_path / "there" / "helper.py").write_text('GREETING = "hello"\n')
    done = run("there/script.py", "--gpu", "a b", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "hello ['there/script.py', '--gpu', 'a b'] [3.0, 3.0, 3.0, 3.0] True True",
        "__main__ there/script.py",
    ]
    assert done.stderr.endswith("] said by the script\n")
    assert done.returncode == 3


def test_processes_that_a_script_starts(tmp_path):
    """Those of multiprocessing import the script again, in an interpreter that knows its path only."""
    (tmp_path / "script.py").write_text(
        """
import multiprocessing
import caffe.io
from caffe import layers as L

def double(x):
    import caffe
    return caffe.io.array_to_datum(x).data, caffe.__name__, caffe.install_as_caffe()

if __name__ == "__main__":
    import numpy as np
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(double, [np.ones((1, 1, 2), np.uint8)]))
"""
    )
    done = run("script.py", cwd=tmp_path)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == [
        f"{method} [(b'\\x01\\x01', 'layerforge', None)]" for method in ("fork", "forkserver", "spawn")
    ]


def test_a_script_may_choose_the_level_of_the_log(tmp_path):
    (tmp_path / "quiet.py").write_text(
        "import os\nos.environ['GLOG_minloglevel'] = '2'\nimport caffe\ncaffe.log('hidden')\n"
    )
    done = run("quiet.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "argv, status, out, err",
    [
        ([], 2, "", as_caffe.USAGE + "\n"),
        (["--help"], 0, as_caffe.USAGE + "\n", ""),
        (["-x"], 2, "", as_caffe.USAGE + "\n"),
        (["absent.py"], 2, "", f"absent.py: there is no such script.\n{as_caffe.USAGE}\n"),
    ],
)
def test_usage(argv, status, out, err, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_caffe.main(argv) == status
    assert capsys.readouterr() == (out, err)


def test_names_are_the_same_objects():
    layerforge.install_as_caffe()
    layerforge.install_as_caffe()  # once more changes nothing
    caffe = importlib.import_module("caffe")
    assert caffe is layerforge
    io = importlib.import_module("caffe.io")
    assert io is layerforge.io is sys.modules["layerforge.io"]
    assert io.__spec__.name == "layerforge.io"
    assert importlib.import_module("caffe._caffe") is layerforge.pycaffe
    assert importlib.import_module("caffe.proto.caffe_pb2") is layerforge.proto.caffe_pb2
    assert importlib.import_module("caffe.layers") is layerforge.layers
    with pytest.raises(ModuleNotFoundError) as error:
        importlib.import_module("caffe.nothing")
    assert error.value.name == "caffe.nothing"


def test_uninstall():
    layerforge.install_as_caffe()
    importlib.import_module("caffe.io")
    as_caffe.uninstall()
    as_caffe.uninstall()
    assert not [name for name in sys.modules if name.partition(".")[0] == "caffe"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("caffe")


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A folder on the path with a package that looks like Caffe itself."""
    package = tmp_path / "site" / "caffe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("real = True\n")
    (package / "_caffe.so").write_bytes(b"")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package


def test_caffe_itself_is_not_replaced(built, tmp_path):
    text = (
        f"Caffe itself is here, as {built / '__init__.py'}: the name caffe is taken. Remove it from this environment or"
        " from PYTHONPATH, or write: import layerforge as caffe"
    )
    with pytest.raises(LayerForgeError) as error:
        layerforge.install_as_caffe()
    assert str(error.value) == text
    assert not as_caffe.is_installed()
    (tmp_path / "script.py").write_text("")
    done = run("script.py", cwd=tmp_path, path=[built.parent])
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text + "\n")


def test_caffe_that_is_imported_already(monkeypatch):
    monkeypatch.setitem(sys.modules, "caffe", types.ModuleType("caffe"))
    with pytest.raises(LayerForgeError) as error:
        layerforge.install_as_caffe()
    assert str(error.value) == (
        "Caffe itself is here, as caffe: the name caffe is taken. Remove it from this environment or from PYTHONPATH,"
        " or write: import layerforge as caffe"
    )


def test_sources_that_were_never_built_are_in_nobodys_way(built):
    (built / "_caffe.so").unlink()
    layerforge.install_as_caffe()
    assert importlib.import_module("caffe") is layerforge


def test_a_folder_of_the_name_is_in_nobodys_way(tmp_path, monkeypatch):
    (tmp_path / "caffe").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    layerforge.install_as_caffe()
    assert importlib.import_module("caffe") is layerforge


LAYER = """
import caffe
from caffe.proto import caffe_pb2


class Tripler(caffe.Layer):
    def setup(self, bottom, top):
        import caffe.io
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        import caffe
        assert self.phase == caffe.TEST
        top[0].data[...] = 3 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        pass
"""
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "y" type: "Python" bottom: "x" top: "y" python_param { module: "tripler_layer" layer: "Tripler" } }
"""


@pytest.fixture
def tripler(tmp_path, monkeypatch):
    (tmp_path / "tripler_layer.py").write_text(LAYER)
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    yield "net.prototxt"
    sys.modules.pop("tripler_layer", None)


def test_a_python_layer_imports_caffe(tripler):
    net = layerforge.Net(tripler, layerforge.TEST)
    net.blobs["x"].data[...] = [1, 2]
    assert net.forward()["y"].tolist() == [3, 6]
    assert as_caffe.is_installed()  # so that the layer may import more of it later


def test_a_python_layer_imports_caffe_where_the_real_one_is_installed(built, tripler):
    net = layerforge.Net(tripler, layerforge.TEST)
    assert type(net.layer_dict["y"]).__mro__[1] is layerforge.Layer
    assert not as_caffe.is_installed()
    assert importlib.import_module("caffe").real is True
    assert np.all(net.blobs["x"].data == 0)
