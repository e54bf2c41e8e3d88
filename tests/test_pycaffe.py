"""pycaffe's names: all there, and what those do that are not a net's, a solver's or a layer's own."""

import logging
import subprocess
import sys
import time

import numpy as np
import pytest

import layerforge as caffe
from layerforge import device, layer, logs, pycaffe
from layerforge.errors import DeviceError

NAMES = """
    set_mode_cpu set_mode_gpu set_device set_random_seed init_log log layer_type_list has_nccl solver_count solver_rank
    set_solver_count set_solver_rank set_multiprocess TRAIN TEST Layer get_solver Net SGDSolver NesterovSolver
    AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer Classifier Detector io NetSpec layers params
    to_proto __version__ proto net_spec classifier detector draw coord_map pycaffe
"""

TYPES = """
    AbsVal Accuracy ArgMax BatchNorm BatchReindex Bias BNLL Clip Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData Eltwise ELU Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
    Im2col ImageData InfogainLoss InnerProduct Input Log LRN LSTM LSTMUnit MemoryData MultinomialLogisticLoss MVN
    Parameter Pooling Power PReLU Python Reduction ReLU Reshape RNN Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice
    Softmax SoftmaxWithLoss Split SPP Swish TanH Threshold Tile WindowData
"""

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""


def test_every_name_is_there():
    for name in [*NAMES.split(), *caffe.__all__]:
        assert getattr(caffe, name) is not None, name
    assert set(NAMES.split()) | set(caffe.__all__) <= set(dir(caffe))
    with pytest.raises(AttributeError) as error:
        _ = caffe.Nets
    assert str(error.value) == "module 'layerforge' has no attribute 'Nets'"
    for name in pycaffe.__all__:
        assert getattr(pycaffe, name) is getattr(caffe, name)


def test_names_are_the_modules_own():
    names = {}
    exec("from layerforge import *", names)
    assert names["Net"] is caffe.Net and names["io"] is caffe.io


def test_importing_is_quick():
    """Well below 0.3 s, but machines differ: the quickest of three, with what Python itself takes off."""

    def seconds(code):
        since = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - since

    assert min(seconds("import layerforge") for _ in range(3)) - min(seconds("") for _ in range(3)) < 0.3


def test_layer_types():
    types = caffe.layer_type_list()
    assert types == sorted(types)
    assert len(TYPES.split()) == 61
    assert set(TYPES.split()) <= set(types)


def test_mode():
    before = device.default()
    try:
        caffe.set_mode_cpu()
        assert device.default() == "cpu"
    finally:
        device.set_default(before)


@pytest.fixture
def no_seed():
    yield
    layer.set_default_seed(None)


def test_random_seed(no_seed, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)

    def weights():
        return caffe.Net(str(path), caffe.TRAIN).params["ip"][0].data

    caffe.set_random_seed(5)
    first = weights()
    assert np.array_equal(first, weights())
    caffe.set_random_seed(6)
    assert not np.array_equal(first, weights())


def test_log(capsys):
    caffe.log("nobody listens")
    caffe.init_log(0)
    caffe.log("one line\nanother")
    caffe.init_log(2)
    caffe.log("of too low a level")
    logging.getLogger("layerforge.net").error("a mistake")
    caffe.init_log()
    caffe.log("again")
    caffe.init_log(0, False)
    caffe.log("over")
    err = capsys.readouterr().err
    assert [line.partition("] ")[2] for line in err.splitlines()] == ["one line", "another", "a mistake", "again"]
    assert not logs.ROOT.handlers


def test_processes():
    assert (caffe.has_nccl(), caffe.solver_count(), caffe.solver_rank()) == (False, 1, 0)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(True)
    alone = "NCCL: several GPUs cannot train one net here. Train on one device: solver.solve(), or layerforge train"
    for use, text in (
        (
            lambda: caffe.set_solver_count(2),
            "solver_count: 2 solvers cannot train one net together; a run takes one device",
        ),
        (lambda: caffe.set_solver_rank(1), "solver_rank: 1: a run takes one device, so its only solver has rank 0"),
        (lambda: caffe.NCCL(None, "uid"), alone),
        (lambda: caffe.NCCL.new_uid(), alone),
    ):
        with pytest.raises(DeviceError) as error:
            use()
        assert str(error.value) == text


def test_timer(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pycaffe.time, "perf_counter", lambda: now[0])
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    now[0] += 0.25
    assert timer.ms == 250
    timer.stop()
    now[0] += 1
    assert timer.ms == 250
    timer.start()
    now[0] += 1
    assert timer.ms == 1000


RULES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.fixture
def solver_file(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    path = tmp_path / "solver.prototxt"
    path.write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 3 max_iter: 3')
    return path


@pytest.mark.parametrize("rule", RULES)
def test_solvers_by_type(rule, solver_file):
    """As the same solver whose prototxt names the type."""
    typed = getattr(caffe, f"{rule}Solver")(str(solver_file))
    assert isinstance(typed, caffe.Solver)
    assert typed.param.type == rule
    solver_file.write_text(f'{solver_file.read_text()} type: "{rule}"')
    named = caffe.get_solver(str(solver_file))
    for solver in (typed, named):
        solver.step(2)
        assert solver.iter == 2
    assert np.array_equal(typed.net.params["ip"][0].data, named.net.params["ip"][0].data)
    typed.close()
    named.close()


def test_the_class_decides(solver_file, caplog):
    """Caffe's do too, whatever the file says; here that is said."""
    solver_file.write_text(f'{solver_file.read_text()} type: "Adam"')
    with caplog.at_level(logging.WARNING):
        solver = caffe.NesterovSolver(str(solver_file))
    assert solver.param.type == "Nesterov"
    assert caplog.messages == ["NesterovSolver: type: Adam has no effect."]
    message = caffe.proto.caffe_pb2.SolverParameter()
    message.CopyFrom(solver.param)
    caffe.AdaGradSolver(message)
    assert message.type == "Nesterov"  # what is given is left as it is


def test_a_session(solver_file, tmp_path):
    """What a script does: train, look, operate on the weights, save, and load them elsewhere."""
    solver = caffe.SGDSolver(str(solver_file))
    seen = []
    solver.add_callback(lambda: seen.append("start"), lambda: seen.append("ready"))
    solver.net.before_forward(lambda i: seen.append(solver.net._layer_names[i]))
    solver.step(1)
    assert seen == ["start", "data", "ip", "loss", "ready"]
    net = solver.net
    assert [net._blob_names[i] for i in net._top_ids(0)] == net.top_names["data"]
    assert [net._blob_names[i] for i in net._bottom_ids(2)] == net.bottom_names["loss"]
    weight, bias = net.params["ip"]
    weight.data[...] = 0
    bias.data.flat = [1, 2]
    net.forward()
    assert np.allclose(net.blobs["ip"].data, [1, 2])
    net.save(str(tmp_path / "w.caffemodel"))
    other = caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel"), caffe.TEST)  # the old order
    assert other.params["ip"][1].data.tolist() == [1, 2]
    assert (net.blobs["x"].num, net.blobs["x"].channels, net.blobs["x"].count) == (4, 3, 12)
    assert net.layer_dict["ip"].type == "InnerProduct" and weight == net.layer_dict["ip"].blobs[0]
    assert np.shares_memory(net.layer_dict["ip"].blobs[0].data, weight.data)
    solver.close()


def test_a_solver_is_of_the_class_of_its_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = 'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } }'
    for text, cls in (
        ("", caffe.SGDSolver),
        ('type: "AdaDelta"', caffe.AdaDeltaSolver),
        ("solver_type: NESTEROV", caffe.NesterovSolver),
    ):
        (tmp_path / "s.prototxt").write_text(
            f'net_param {{ {net} }} base_lr: 1 lr_policy: "fixed" snapshot_prefix: "s" {text}'
        )
        assert type(caffe.get_solver("s.prototxt")) is cls


def test_names_within_modules():
    """What scripts find in pycaffe's modules because those import it."""
    for module in (caffe.io, caffe.draw, caffe.net_spec):
        assert module.caffe_pb2 is caffe.proto.caffe_pb2
    assert caffe.net_spec.param_name_dict()["InnerProduct"] == "inner_product"
    layer = caffe.proto.caffe_pb2.LayerParameter()
    caffe.net_spec.assign_proto(layer, "param", [{"lr_mult": 2}, {}])
    assert [spec.lr_mult for spec in layer.param] == [2, 1]


def test_files_that_are_not_there(tmp_path):
    """Scripts expect RuntimeError."""
    with pytest.raises(RuntimeError, match=r"none\.prototxt: there is no such file; a net is wanted\.$"):
        caffe.Net(str(tmp_path / "none.prototxt"), caffe.TEST)
    (tmp_path / "net.prototxt").write_text('layer { name: "x" type: "Input" top: "x" }')
    with pytest.raises(RuntimeError, match=r"^cannot read weights from .*none\.caffemodel: No such file or directory$"):
        caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / "none.caffemodel"), caffe.TEST)
