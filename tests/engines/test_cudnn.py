"""The engine of cuDNN with a cuDNN that is none: what it is asked for, and which plan is taken."""

import ctypes
import importlib.util
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import layerforge as lf
from layerforge import device, engines, schema, testing
from layerforge.device import cudnn, emulated, libraries
from layerforge.engines import CuDnn, Geometry, output_shape
from layerforge.engines.columns import Columns
from layerforge.errors import DeviceError
from layerforge.testing import check_layer

PLAIN = (False, False)
G = Geometry(2, 4, 6, 2, (5, 6), (3, 3), (2, 1), (1, 0), (1, 1), (3, 4))


class Tensor:
    def __init__(self, dim, stride=None):
        self.dim = dim
        self.stride = stride
        self.said = []

    def __getattr__(self, name):
        def said(*arguments):
            self.said.append((name, *arguments))
            return self

        return said


def array(address, shape, strides):
    """The elements there, which lie one behind the other in some order of the axes."""
    count, places = int(np.prod(shape)), sum(i * step for i, step in zip(np.indices(shape), strides, strict=True))
    assert sorted(places.reshape(-1)) == list(range(count))
    flat = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (count,))
    return np.lib.stride_tricks.as_strided(flat, shape, [4 * step for step in strides])


class Graph:
    """Computes with the CPU's engine, whatever the plan, on arrays of the strides that it is told."""

    def __init__(self, library, **options):
        self.library, self.options, self.operations = library, options, []
        self.refused = []
        library.graphs.append(self)

    def tensor(self, name, dim, stride, data_type):
        assert data_type == "float"
        return Tensor(dim, stride)

    def add(self, name, **given):
        if name in self.library.unsupported:
            raise RuntimeError(f"{name} is not supported")
        self.operations.append((name, given))
        return Tensor(None)

    def conv_fprop(self, image, weight, **options):
        return self.add("conv_fprop", x=image, w=weight, **options)

    def conv_dgrad(self, loss, filter, **options):
        return self.add("conv_dgrad", y=loss, w=filter, **options)

    def conv_wgrad(self, image, loss, **options):
        return self.add("conv_wgrad", x=image, y=loss, **options)

    def bias(self, given, b):
        return self.add("bias", b=b)

    def relu(self, given):
        return self.add("relu")

    def validate(self):
        pass

    build_operation_graph = validate

    def create_execution_plans(self, modes):
        assert modes == ["A", "FALLBACK"]

    def deselect_numeric_notes(self, notes):
        self.refused = notes

    def deselect_workspace_greater_than(self, size):
        assert size == cudnn.WORKSPACE

    def get_execution_plan_count(self):
        return len(self.library.plans)

    def build_plan_at_index(self, index):
        if self.library.plans[index][0] in self.refused:
            raise RuntimeError("deselected")

    def get_plan_name_at_index(self, index):
        return f"eng{index}"

    def get_workspace_size_plan_at_index(self, index):
        return 100 * index

    def execute_plan_at_index(self, addresses, workspace, index, handle):
        assert handle == 7 and workspace
        self.library.ran.append((self.operations[-1][0], index))
        name, given = self.operations[0]
        (out,) = (tensor for tensor in addresses if tensor.dim is None)
        told = {said[0]: said[1] for said in out.said if len(said) > 1}
        shape = told["set_dim"]
        assert told["set_output"] is True
        tensors = {
            key: np.ascontiguousarray(array(addresses[given[key]], given[key].dim, given[key].stride))
            for key in "xyw"
            if key in given
        }
        lying = array(addresses[out], shape, told["set_stride"])
        result = np.zeros(shape, np.float32)
        self.library.operations.append(name)
        self.library.lay.append({key: given[key].stride for key in "xyw" if key in given} | {"out": told["set_stride"]})
        shapes = {key: value.shape for key, value in tensors.items()}
        shapes[{"conv_fprop": "y", "conv_dgrad": "x", "conv_wgrad": "w"}[name]] = tuple(shape)
        x, w, y = shapes["x"], shapes["w"], shapes["y"]
        options = (tuple(given[key]) for key in ("stride", "padding", "dilation"))
        g = Geometry(x[0], x[1], y[1], x[1] // w[1], x[2:], w[2:], *options, y[2:])
        engine = engines.Im2col()
        scratch = np.zeros(engine.scratch(g), np.float32)
        if name == "conv_fprop":
            bias = None
            if len(self.operations) > 1:
                b = self.operations[1][1]["b"]
                assert b.dim == (1, y[1], 1, 1) or b.dim == [1, y[1], 1, 1]
                bias = array(addresses[b], (y[1],), (1,))
            engine.forward(tensors["x"], tensors["w"], bias, result, g, scratch)
            if self.operations[-1][0] == "relu":
                np.maximum(result, 0, out=result)
        elif name == "conv_dgrad":
            engine.backward_data(tensors["y"], tensors["w"], result, g, scratch)
        else:
            engine.backward_weights(tensors["x"], tensors["y"], result, None, g, scratch)
        lying[...] = result


class Library:
    """Plans as (note, seconds)."""

    data_type = SimpleNamespace(FLOAT="float")
    heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")

    def __init__(self, plans=(("", 3.0), ("TENSOR_CORE", 0.5), ("", 2.0), ("NONDETERMINISTIC", 0.1), ("", 4.0))):
        self.plans, self.unsupported = plans, ()
        self.graphs, self.ran, self.operations, self.lay = [], [], [], []

        class Notes:
            def __getattr__(self, name):
                return name

        self.numerical_note = Notes()

    def pygraph(self, **options):
        return Graph(self, **options)

    def create_handle(self):
        return 7

    def set_stream(self, handle, stream):
        assert handle == 7
        self.streams = [*getattr(self, "streams", []), stream]

    def backend_version(self):
        return 92800

    def time(self, run):
        run()
        name, index = self.ran[-1]
        return self.plans[index][1] * (10 if name in self.slow else 1)

    slow = ()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Puts a library in the place of cuDNN on the emulated device, and gives what uses it."""

    def make(library):
        there = device.get("emulated")
        kept = tmp_path / "cache" / "cudnn.json"
        found = cudnn.Cudnn(library, "a GPU", lambda n: there.zeros(n, np.uint8), library.time, kept)

        def convolve(self, way, g, last, **pointers):
            if emulated.stream.kept is None:
                return found.run(way, g, last, self.cublas.mode, **pointers)
            plan = found.plan(way, g, last, self.cublas.mode, pointers)
            if plan is not None:
                emulated.stream.do(lambda: found._execute(plan, pointers))
            return plan is not None

        monkeypatch.setattr(emulated.Emulated, "convolve", convolve, raising=False)
        monkeypatch.setattr(cudnn, "available", lambda: True)
        monkeypatch.setattr(testing, "DEVICES", ("cpu", "emulated"))  # a GPU's cuDNN need not be there
        columns = Columns(1 << 12)
        monkeypatch.setitem(engines.ENGINES, "emulated", (CuDnn(columns), columns))
        engines.convolution.cache_clear()
        return found

    yield make
    engines.convolution.cache_clear()


def addresses(g):
    there = device.get("emulated")
    shapes = {"x": g.input_shape, "w": g.weight_shape, "b": (g.num_output,), "out": g.output_shape}
    arrays = {name: there.zeros(shape) for name, shape in shapes.items()}
    return arrays, {name: each.data.ptr for name, each in arrays.items()}


CASES = [
    "num_output: 6 kernel_size: 3 weight_filler { type: 'xavier' }",
    "num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false",
    "num_output: 4 kernel_h: 2 kernel_w: 3 dilation: 2 pad: 3",
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("unsupported", [(), ("bias",), ("conv_fprop",), ("conv_dgrad", "conv_wgrad")])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_layers(made, options, unsupported, kind):
    """All that a layer must be, with cuDNN or, where it does not compute something, without."""
    library = Library()
    library.unsupported = unsupported
    made(library)
    check_layer(f'type: "{kind}" convolution_param {{ {options} }}', [(2, 4, 9, 8)])
    assert library.ran


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("block", [(4, 6), (1, 6), (4, 1), (1, 1)])
@pytest.mark.parametrize("unsupported", [(), ("bias",), ("conv_fprop",), ("conv_dgrad", "conv_wgrad")])
def test_channels_last(made, three_ways, block, unsupported, kernel):
    """x and y lie as they lie; weights stay plain, but those of a single tap have the strides of either order."""
    library = Library()
    library.unsupported = unsupported
    made(library)
    g = replace(G, kernel=(kernel, kernel), output=output_shape(G.spatial, (kernel, kernel), G.stride, G.pad, (1, 1)))
    engine = engines.convolution("emulated", "DEFAULT", g, np.float32, block)
    assert engine.name == "CUDNN"
    for name, values in three_ways(engine, g, block).items():
        expected = three_ways(Columns(1 << 20), g)[name]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    steps = {"x": cudnn.strides(g.input_shape, block[0] > 1), "y": cudnn.strides(g.output_shape, block[1] > 1)}
    steps["w"] = cudnn.strides(g.weight_shape, kernel == 1 and block != (1, 1))
    written = {"conv_fprop": "y", "conv_dgrad": "x", "conv_wgrad": "w"}
    for operation, lay in zip(library.operations, library.lay, strict=True):
        assert all(lay[name] == steps[written[operation] if name == "out" else name] for name in lay)


def test_channels_last_have_plans_of_their_own(made, tmp_path):
    found = made(Library())
    arrays, pointers = addresses(G)
    for last in ((False, False), (True, False), (False, True), (True, True)):
        assert found.run("forward", G, last, "tf32", **pointers)
    names = json.loads((tmp_path / "cache" / "cudnn.json").read_text())["cuDNN 92800, a GPU"]
    assert sorted(name.removeprefix(f"forward, tf32, {G}") for name in names) == [
        "", ", x with channels last", ", x with channels last, y with channels last", ", y with channels last"
    ]  # fmt: skip
    del arrays


def test_blocks_of_some_channels_it_does_not_take(made):
    made(Library())
    assert engines.convolution("emulated", "DEFAULT", G, np.float32, (2, 6)) is None


NET = """
force_backward: true math_mode: "tf32"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
    num_output: 6 kernel_size: 3 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "one" type: "Convolution" bottom: "conv" top: "one" convolution_param {
    num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "both" type: "Concat" bottom: "one" bottom: "pool" top: "both" }
layer { name: "branch" type: "Convolution" bottom: "both" top: "branch" convolution_param {
    bias_term: false num_output: 10 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "branch" top: "branch" batch_norm_param { use_global_stats: false } }
layer { name: "sum" type: "Eltwise" bottom: "branch" bottom: "both" top: "sum" }
layer { name: "last" type: "Convolution" bottom: "sum" top: "last" convolution_param {
    num_output: 3 kernel_size: 2 weight_filler { type: "msra" } } }
"""


@pytest.mark.parametrize("unsupported", [(), ("bias",), ("conv_fprop",), ("conv_dgrad", "conv_wgrad")])
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
def test_nets_with_channels_last(made, unsupported, phase):
    """An inception block and a residual block, in both orders, whatever cuDNN computes."""
    library, found = Library(), []
    library.unsupported = unsupported
    made(library)
    for blocks in (True, False):
        net = lf.Net(schema.parse(NET, "NetParameter"), phase, seed=1, device="emulated", blocks=blocks)
        lying = {name for name, view in net.views.items() if view.block > 1}
        assert len(lying) == (10 if blocks else 0) and not {"x", "last"} & lying
        net.blobs["x"].data[...] = np.random.default_rng(1).standard_normal((2, 3, 9, 8))
        for turn in range(4):
            net.clear_param_diffs()
            net.run_forward()
            net.blobs["last"].diff[...] = np.random.default_rng(turn).standard_normal(net.blobs["last"].shape)
            net.run_backward()
        assert net.passes.apart == {}
        arrays = {(name, kind): getattr(net.blobs[name], kind) for name in net.blobs for kind in ("data", "diff")}
        arrays |= {(name, i): p.diff for name, each in net.params.items() for i, p in enumerate(each)}
        found.append({key: np.array(values) for key, values in arrays.items()})
    for key, values in found[1].items():
        np.testing.assert_allclose(found[0][key], values, rtol=1e-4, atol=1e-5 * np.abs(values).max(), err_msg=key)


def test_streams(made):
    library = Library()
    found = made(library)
    for stream in (99, 99, 77, 99):
        found.on(stream)
    assert library.streams == [99, 77, 99]


RECTIFIED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
    num_output: 6 kernel_size: 3 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" %s }
layer { name: "loss" type: "Reduction" bottom: "conv" top: "loss" loss_weight: 1 reduction_param { operation: SUMSQ } }
force_backward: true
"""


@pytest.mark.parametrize("unsupported", [(), ("relu",), ("bias",), ("conv_fprop",)])
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
def test_a_rectifier_is_part_of_the_convolution(made, unsupported, phase):
    library = Library()
    library.unsupported = unsupported
    made(library)
    nets = [
        lf.Net(schema.parse(RECTIFIED % "", "NetParameter"), phase, seed=1, device="emulated", fuse=fuse)
        for fuse in (True, False)
    ]
    assert nets[0].fused == {"relu": "conv"} and not nets[1].fused
    for turn in range(4):
        for net in nets:
            net.blobs["x"].data[...] = np.random.default_rng(turn).standard_normal((2, 4, 9, 8))
            net.clear_param_diffs()
            net.forward_backward()
    assert nets[0].fused and (("relu", 2) in library.ran) == (not unsupported)
    for name, kind in (("conv", "data"), ("x", "diff"), ("loss", "data")):
        found, expected = (np.array(getattr(net.blobs[name], kind)) for net in nets)
        assert expected.any()
        np.testing.assert_array_equal(found, expected)
    for mine, theirs in zip(nets[0].params["conv"], nets[1].params["conv"], strict=True):
        np.testing.assert_array_equal(mine.diff, theirs.diff)
    assert not nets[0].fused  # somebody looked
    for net in nets:
        net.forward_backward()
    np.testing.assert_array_equal(nets[0].blobs["x"].diff, nets[1].blobs["x"].diff)


@pytest.mark.parametrize("text", [
    RECTIFIED % "relu_param { negative_slope: 0.1 }",
    (RECTIFIED % "").replace("kernel_size: 3", "kernel_size: 3 bias_term: false"),
    (RECTIFIED % "").replace("kernel_size: 3", "kernel_size: 3 engine: CAFFE"),
    (RECTIFIED % "").replace('"conv" top: "conv"', '"conv" top: "r"').replace('"conv" top: "loss"', '"r" top: "loss"'),
])  # fmt: skip
def test_rectifiers_that_are_not(made, text):
    """The last one writes another blob than it reads in its backward pass."""
    made(Library())
    assert not lf.Net(schema.parse(text, "NetParameter"), lf.TRAIN, device="emulated").fused


def test_the_quickest_plan_that_keeps_the_rules(made, tmp_path):
    library = Library()
    found = made(library)
    arrays, pointers = addresses(G)
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    assert library.ran == [("conv_fprop", index) for index in (0, 2, 4, 2)]
    assert library.graphs[0].options == {
        "io_data_type": "float", "intermediate_data_type": "float", "compute_data_type": "float", "handle": 7
    }  # fmt: skip
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    assert library.ran[4:] == [("conv_fprop", 2)]
    assert found.run("forward", G, PLAIN, "tf32", **pointers)
    assert library.ran[-1] == ("conv_fprop", 1)
    kept = json.loads((tmp_path / "cache" / "cudnn.json").read_text())
    assert list(kept) == ["cuDNN 92800, a GPU"]
    assert [(each["plan"], each["seconds"]) for each in kept["cuDNN 92800, a GPU"].values()] == [
        ("eng2", 2.0), ("eng1", 0.5)
    ]  # fmt: skip
    del arrays


def test_many_plans(made):
    """Those that cuDNN puts first are timed, and of these only such as keep the rules."""
    library = Library((("TENSOR_CORE", 0.1), *(("", 20.0 - index) for index in range(30))))
    found = made(library)
    arrays, pointers = addresses(G)
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    assert library.ran == [("conv_fprop", index) for index in (*range(1, 17), 16)]
    del arrays


def test_a_choice_is_remembered(made, tmp_path):
    arrays, pointers = addresses(G)
    made(Library()).run("forward", G, PLAIN, "float32", **pointers)
    again = Library()
    assert made(again).run("forward", G, PLAIN, "float32", **pointers)
    assert again.ran == [("conv_fprop", 2)]
    for damage in ("{", "[]", '{"cuDNN 92800, a GPU": {}}'):
        (tmp_path / "cache" / "cudnn.json").write_text(damage)
        again = Library()
        assert made(again).run("forward", G, PLAIN, "float32", **pointers)
        assert len(again.ran) == 4
    other = Library(plans=[("", 1.0), ("", 5.0), ("TENSOR_CORE", 1.0)])  # another version offers others
    assert made(other).run("forward", G, PLAIN, "float32", **pointers)
    assert other.ran == [("conv_fprop", index) for index in (0, 1, 0)]
    del arrays


@pytest.mark.parametrize("way, last", [("biased", "bias"), ("rectified", "relu")])
def test_a_plan_for_more_than_the_convolution_that_is_too_slow(made, way, last):
    library = Library()
    library.slow = (last,)
    found = made(library)
    arrays, pointers = addresses(G)
    assert not found.run(way, G, PLAIN, "float32", **pointers)
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    library.slow = ()
    assert made(Library()).run(way, replace(G, batch=1), PLAIN, "float32", **pointers)
    del arrays


def test_plans_that_fail(made, caplog):
    caplog.set_level("INFO")
    library = Library(plans=[("", 1.0), ("", 2.0)])
    found = made(library)
    time = library.time

    def fail(run):
        if not library.ran or library.ran[-1][1] == 1:
            run()
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        return time(run)

    found._time = fail
    arrays, pointers = addresses(G)
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    assert library.ran[-1] == ("conv_fprop", 1)
    assert "cuDNN: plan eng0 fails: CUDNN_STATUS_EXECUTION_FAILED" in caplog.messages
    del arrays


def test_old_workspaces_stay(made):
    """A record may use them. Those of plans that were only tried do not."""
    library = Library(plans=[("", 3.0), ("", 1.0), ("", 2.0)])
    found = made(library)
    arrays, pointers = addresses(G)
    found.run("forward", G, PLAIN, "float32", **pointers)
    assert [each.nbytes for each in found._workspaces] == [100]
    library.plans = [("", 3.0), ("", 2.0), ("", 1.0)]
    found.run("biased", G, PLAIN, "float32", **pointers)
    assert [each.nbytes for each in found._workspaces] == [100, 200]
    found.let_go()
    assert found._workspaces == []
    found.run("forward", G, PLAIN, "float32", **pointers)  # by the same plan
    assert [each.nbytes for each in found._workspaces] == [100]
    del arrays


def test_versions(monkeypatch):
    library = Library()
    library.__version__ = "1.22.1"
    monkeypatch.setattr(cudnn, "module", lambda: library)
    assert cudnn.versions() == {"cuDNN": "9.28.0", "cuDNN's package": "1.22.1"}


def test_a_plan_for_which_there_is_no_memory(made, caplog):
    caplog.set_level("INFO")
    library = Library(plans=[("", 3.0), ("", 2.0), ("", 1.0)])
    found = made(library)
    arrays, pointers = addresses(G)
    allocate = found._allocate

    def limited(size):
        if size < 200:
            return allocate(size)
        failure = DeviceError("not enough memory")
        failure.out_of_memory = True
        raise failure

    found._allocate = limited
    assert found.run("forward", G, PLAIN, "float32", **pointers)
    assert library.ran[-1] == ("conv_fprop", 1)
    assert "cuDNN: plan eng2 is left out: not enough memory" in caplog.messages
    del arrays


def test_what_it_does_not_take(made):
    made(Library())
    engine = engines.convolution("emulated", "CUDNN", G, np.float32)
    assert engine.name == "CUDNN"
    assert engines.convolution("emulated", "CAFFE", G, np.float32).name == "CAFFE"
    assert engines.convolution("emulated", "CUDNN", G, np.float64).name == "CAFFE"
    line = Geometry(2, 4, 6, 2, (5,), (3,), (1,), (0,), (1,), (3,))
    assert engines.convolution("emulated", "DEFAULT", line, np.float32).name == "CAFFE"


@pytest.fixture
def fresh():
    cudnn.module.cache_clear()
    cudnn.available.cache_clear()
    yield
    cudnn.module.cache_clear()
    cudnn.available.cache_clear()


def refusal():
    with pytest.raises(DeviceError) as caught:
        cudnn.module()
    return str(caught.value)


def test_no_package(fresh, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = (
        "the package cudnn is missing; install it with `pip install 'layerforge[cudnn]'`, or `'layerforge[cudnn12]'`"
        " for a driver of CUDA 12"
    )
    assert refusal() == message
    assert not cudnn.available() and not cudnn.available()
    assert caplog.messages == [f"Convolutions do without cuDNN: {message}"]


@pytest.mark.parametrize("missing, cuda, message", [
    ("cublasLt", 13050, "cuDNN needs cuBLAS (there is no libcublasLt.so.13 in NVIDIA's wheels or where the system"
     " looks); install it with `pip install nvidia-cublas`"),
    ("cublasLt.so.12", 12090, "cuDNN needs cuBLAS (there is no libcublasLt.so.12 in NVIDIA's wheels or where the system"
     " looks); install it with `pip install nvidia-cublas-cu12`"),
    ("cudnn", 0, "cuDNN cannot be loaded (there is no libcudnn.so.9 in NVIDIA's wheels or where the system looks);"
     " install it with `pip install 'layerforge[cudnn]'`, or `'layerforge[cudnn12]'` for a driver of CUDA 12"),
    ("none", 13050, "the driver is for CUDA 12, and cuDNN for 13; install it with `pip install 'layerforge[cudnn]'`, or"
     " `'layerforge[cudnn12]'` for a driver of CUDA 12"),
])  # fmt: skip
def test_a_library_that_is_missing(fresh, monkeypatch, missing, cuda, message):
    """CuBLAS is looked for before cuDNN does: that would end the process."""
    monkeypatch.setattr(libraries, "driver", 12 if missing == "none" else None)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "cudnn" else find(name))
    monkeypatch.setattr(libraries, "in_wheels", lambda name, versions: [])

    def version():
        return cuda

    def open_(file, *arguments):
        if missing in file:
            raise OSError(file)
        return SimpleNamespace(cudnnGetCudartVersion=version)

    monkeypatch.setattr(libraries.ctypes, "CDLL", open_)
    assert refusal() == message
