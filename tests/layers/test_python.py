import os
import sys

import numpy as np
import pytest

import layerforge
from layerforge.device import emulated
from layerforge.errors import DefinitionError, ShapeError
from layerforge.layer import TEST, TRAIN
from layerforge.testing import Bench, check_gradient, check_layer

# As pycaffe's users write them, but for the name of the package.
MODULE = """
import numpy as np
import layerforge as caffe


class EuclideanLossLayer(caffe.Layer):

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float64)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            if i == 0:
                sign = 1
            else:
                sign = -1
            bottom[i].diff[...] = sign * self.diff / bottom[i].num * top[0].diff


class Scale(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = eval(self.param_str)["value"]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0] * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += np.sum(top[0].diff * bottom[0].data)
        bottom[0].diff[...] = self.blobs[0].data[0] * top[0].diff


class Product(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data * bottom[1].data

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if propagate_down[i]:
                bottom[i].diff[...] = top[0].diff * bottom[1 - i].data


class Phase(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape()
    def forward(self, bottom, top): top[0].data[()] = self.phase
    def backward(self, top, propagate_down, bottom): pass


class Positive(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)

    def forward(self, bottom, top):
        found = bottom[0].data[bottom[0].data > 0]
        top[0].reshape(*found.shape)
        top[0].data[...] = found

    def backward(self, top, propagate_down, bottom): pass


class Broken(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): raise RuntimeError("mine")
    def backward(self, top, propagate_down, bottom): raise KeyError("mine too")


class Legacy(caffe.Layer):
    def setup(self, bottom, top):
        b = bottom[0]
        assert (b.num, b.channels, b.height, b.width, b.count) == (2, 3, 4, 1, 24)
        assert list(b.shape) == [2, 3, 4] and b.data.dtype == np.float32

    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].num, bottom[0].count // bottom[0].num)

    def forward(self, bottom, top):
        top[0].data.flat = bottom[0].data.flat

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[0] = 1


class OnDevice(caffe.Layer):
    on_device = True

    def setup(self, bottom, top):
        self.seen = set()

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.seen.add(type(bottom[0].data))
        np.multiply(bottom[0].data, 3, out=top[0].data)

    def backward(self, top, propagate_down, bottom):
        self.seen.add(type(top[0].diff))
        bottom[0].diff[...] = top[0].diff * 3


def function(): pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with the module `mine`."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mine", "other", "package")]:
        del sys.modules[name]


def definition(layer, module="mine", rest=""):
    return f'name: "it" type: "Python" top: "y"\npython_param {{\nmodule: "{module}"\nlayer: "{layer}"\n{rest} }}'


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shape", [(2, 3, 4), (5,)])
def test_python(shape):
    check_layer(definition("Product"), [shape] * 2, lambda x, z: x * z)


def test_a_loss(folder):
    def expected(x, t):
        return np.reshape(np.sum((x - t) ** 2) / 2 / len(x), 1)

    check_gradient(definition("EuclideanLossLayer"), [(4, 3)] * 2)  # of an empty batch it has no mean
    bench = Bench(definition("EuclideanLossLayer"), [(4, 3)] * 2)
    x, t = np.random.default_rng(0).standard_normal((2, 4, 3))
    np.testing.assert_allclose(bench.forward([x, t], {})[0], expected(x, t))


def test_parameters_and_param_str(folder):
    text = definition("Scale", rest="param_str: \"{'value': 2.5}\"")
    check_gradient(text, [(2, 3)])
    bench = Bench(text, [(2, 3)])
    assert [p.shape for p in bench.layer.blobs] == [(1,)]
    assert (bench.forward([np.ones((2, 3))], {"0": [4]})[0] == 4).all()
    bench.bottom[0].needs_diff, bench.bottom[0].diff = False, None
    assert bench.backward([np.ones((2, 3))])[1]["0"] == 6


@pytest.mark.parametrize("where, kind", [("cpu", np.ndarray), ("emulated", emulated.Array)])
def test_a_class_that_takes_the_device_s_arrays(folder, where, kind):
    bench = Bench(definition("OnDevice"), [(2, 3)], device=where)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(bench.forward([x], {})[0], 3 * x)
    np.testing.assert_array_equal(bench.backward([x])[0][0], 3 * x)
    assert bench.layer.user.seen == {kind}


def test_phase(folder):
    for phase in (TRAIN, TEST):
        assert Bench(definition("Phase"), [], phase=phase).forward([], {})[0] == phase


def test_a_top_that_takes_its_shape_in_forward(folder):
    bench = Bench(definition("Positive"), [(4,)])
    for values in ([-1, 2, 3, -4], [-1, -2, 3, -4], [1, 2, 3, 4]):
        (y,) = bench.forward([values], {})
        assert y.tolist() == [v for v in values if v > 0]


def test_pycaffe_s_names_of_dimensions_and_a_diff_that_is_partly_written(folder):
    bench = Bench(definition("Legacy"), [(2, 3, 4)], dtype=np.float32)
    x = np.arange(24.0).reshape(2, 3, 4)
    assert bench.forward([x], {})[0].tolist() == x.reshape(2, 12).tolist()
    (dx,), _ = bench.backward([np.ones((2, 12))])
    assert dx.tolist() == [[[1] * 4] * 3, [[0] * 4] * 3]


def test_what_the_class_raises_reaches_the_caller(folder):
    bench = Bench(definition("Broken"), [(1,)])
    with pytest.raises(RuntimeError, match=r"^mine$"):
        bench.forward([[1]], {})
    with pytest.raises(KeyError, match="mine too"):
        bench.backward([[1]])
    with pytest.raises(Exception, match=r"^Need two inputs to compute distance\.$"):
        Bench(definition("EuclideanLossLayer"), [(1,)])


def test_the_module_may_lie_beside_the_prototxt_or_in_a_package(folder, monkeypatch):
    (folder / "package").mkdir()
    (folder / "package" / "other.py").write_text("import helper\n" + MODULE)
    (folder / "package" / "helper.py").write_text("")
    from layerforge import schema
    from layerforge.layers.python import Python

    path = list(sys.path)
    made = schema.parse(definition("Phase", "other"), "LayerParameter", str(folder / "package" / "net.prototxt"))
    layer = Python(made, TEST)
    layer.setup()
    assert layer.top_shapes() == [()]
    assert sys.path == path
    sys.modules.pop("helper")
    del sys.modules["other"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'helper'"):
        Bench(definition("Phase", "package.other"), [])


def test_no_such_module(folder):
    for name in ("nothere", "mine.nothere"):
        with pytest.raises(DefinitionError) as caught:
            Bench(definition("Scale", name), [(1,)])
        assert str(caught.value) == (
            f'<text>:3:1: layer "it" (Python): module: there is no Python module "{name}" in {os.getcwd()},'
            " nor on PYTHONPATH"
        )


@pytest.mark.parametrize(
    "name, text",
    [
        ("Scales", 'layer: module "mine" ({file}) has no class "Scales". Did you mean "Scale"?'),
        (
            "function",
            'layer: "function" of module "mine" must be a class derived from layerforge.Layer, with the methods setup,'
            " reshape, forward and backward",
        ),
    ],
)
def test_no_such_class(folder, name, text):
    with pytest.raises(DefinitionError) as caught:
        Bench(definition(name), [(1,)])
    assert str(caught.value) == f'<text>:4:1: layer "it" (Python): {text.format(file=folder / "mine.py")}'


def test_it_is_not_registered():
    from layerforge.layer import registry

    class PycaffeLayer(layerforge.Layer):
        def reshape(self, bottom, top):
            pass

    assert "PycaffeLayer" not in registry


# In a net.


def make_net(folder, text, **options):
    (folder / "net.prototxt").write_text(text)
    return layerforge.Net(str(folder / "net.prototxt"), **options)


def python_layer(name, kind, bottom, top, rest=""):
    return (
        f'layer {{ name: "{name}" type: "Python" bottom: "{bottom}" top: "{top}"\n'
        f'  python_param {{ module: "mine" layer: "{kind}" {rest} }} }}\n'
    )


INPUT = 'force_backward: true\nlayer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


def ten_times(bottom, top):
    return python_layer(f"to_{top}", "Scale", bottom, top, "param_str: \"{'value': 10}\"")


def test_a_chain(folder):
    net = make_net(folder, INPUT + ten_times("x", "a") + ten_times("a", "b") + ten_times("b", "c"))
    x = np.arange(6.0).reshape(2, 3)
    assert net.forward(x=x)["c"].tolist() == (1000 * x).tolist()
    assert net.backward(c=x)["x"].tolist() == (1000 * x).tolist()
    net.blobs["x"].reshape(4, 1)
    assert net.forward(x=np.ones((4, 1)))["c"].tolist() == [[1000]] * 4


def test_in_place(folder):
    net = make_net(folder, INPUT + 'layer { name: "relu" type: "ReLU" bottom: "x" top: "a" }' + ten_times("a", "a"))
    assert net.forward(x=[[1, -2, 3], [0, 5, -6]])["a"].tolist() == [[10, 0, 30], [0, 50, 0]]
    assert net.backward(a=np.ones((2, 3)))["x"].tolist() == [[10, 0, 10], [0, 10, 0]]


def test_parameters_are_kept_saved_loaded_and_shared(folder):
    text = INPUT + ten_times("x", "a").replace("python_param", 'param { name: "w" } python_param')
    text += ten_times("a", "b").replace("python_param", 'param { name: "w" } python_param')
    net = make_net(folder, text)
    assert net.params["to_a"][0].data == net.params["to_b"][0].data == 10
    net.params["to_a"][0].data[0] = 3
    assert net.forward(x=np.ones((2, 3)))["b"][0, 0] == 9
    net.backward(b=np.ones((2, 3)))
    assert net.params["to_a"][0].diff == 6 * 3 + 6 * 3
    net.save(str(folder / "net.caffemodel"))
    again = make_net(folder, text)
    again.copy_from(str(folder / "net.caffemodel"))
    assert again.params["to_b"][0].data == 3


def test_layers_below_follow_a_top_that_takes_its_shape_in_forward(folder):
    text = INPUT + python_layer("positive", "Positive", "x", "a") + ten_times("a", "b")
    text += 'layer { name: "relu" type: "ReLU" bottom: "b" top: "c" }'
    net = make_net(folder, text)
    for x in ([[1, -2, 3], [0, 5, -6]], [[1, 2, 3], [4, 5, 6]], [[-1, -2, 3], [-4, -5, -6]]):
        kept = [v for v in np.ravel(x) if v > 0]
        assert net.forward(x=x)["c"].tolist() == [10 * v for v in kept]
        assert net.blobs["b"].shape == (len(kept),)


def test_no_data_is_seen_before_there_is_any(folder):
    text = INPUT.replace("dim: 2 dim: 3", "dim: 2 dim: 3 dim: 4") + python_layer("legacy", "Legacy", "x", "a")
    net = make_net(folder, text)
    assert net.blobs["a"].shape == (2, 12)


def test_what_the_class_raises_leaves_the_net_as_it_is(folder):
    net = make_net(folder, INPUT + python_layer("broken", "Broken", "x", "a"))
    with pytest.raises(RuntimeError, match=r"^mine$"):
        net.forward(x=np.ones((2, 3)))


def test_a_net_shows_the_user_s_object(folder):
    """Scripts hand data to their layers: ``net.layers[0].set_roidb(...)``."""
    (folder / "mine.py").write_text(
        MODULE
        + """

class Rows(caffe.Layer):
    def set_rows(self, rows): self.rows = rows
    def setup(self, bottom, top): self.width = int(self.param_str_)
    def reshape(self, bottom, top): top[0].reshape(1, self.width)

    def forward(self, bottom, top):
        top[0].reshape(len(self.rows), self.width)
        top[0].data[...] = self.rows

    def backward(self, top, propagate_down, bottom): pass
"""
    )
    rows = definition("Rows", rest='param_str: "2"')
    net = layerforge.Net(
        layerforge.schema.parse(
            f'layer {{ {rows} }}layer {{ name: "z" type: "Power" bottom: "y" top: "z" power_param {{ scale: 2 }} }}',
            "NetParameter",
        ),
        TRAIN,
    )
    shown = net.layers[0]
    assert shown is net.layer_dict["it"] and type(shown).__name__ == "Rows"
    assert (shown.name, shown.type, shown.phase, list(shown.blobs)) == ("it", "Python", TRAIN, [])
    for rows in ([[1, 2]], [[1, 2], [3, 4], [5, 6]]):
        shown.set_rows(rows)
        assert net.forward()["z"].tolist() == (2 * np.array(rows)).tolist()


def test_two_layers_that_choose_shapes_in_forward_meet(folder):
    """Faster R-CNN's way: images of any size, labels of as many places, and a loss that takes both."""
    (folder / "rpn.py").write_text(
        """
import caffe
import numpy as np

class Images(caffe.Layer):
    def setup(self, bottom, top): top[0].reshape(1, 2, 1, 1)
    def reshape(self, bottom, top): pass
    def backward(self, top, propagate_down, bottom): pass

    def forward(self, bottom, top):
        top[0].reshape(1, 2, *self.size)
        top[0].data[...] = np.arange(top[0].count).reshape(top[0].data.shape) % 3

class Targets(caffe.Layer):
    extra = 0
    def setup(self, bottom, top): top[0].reshape(1, 1, *bottom[0].data.shape[2:])
    def reshape(self, bottom, top): pass
    def backward(self, top, propagate_down, bottom): pass

    def forward(self, bottom, top):
        height, width = bottom[0].data.shape[2:]
        top[0].reshape(1, 1, height + self.extra, width)
        top[0].data[...] = 1

class Same(caffe.Layer):
    def setup(self, bottom, top): pass
    def forward(self, bottom, top): top[0].data[...] = bottom[0].num
    def backward(self, top, propagate_down, bottom): pass

    def reshape(self, bottom, top):
        if bottom[0].count != 2 * bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        top[0].reshape(1)
"""
    )

    def one(name, layer, bottoms, top):
        bottom = " ".join(f'bottom: "{each}"' for each in bottoms)
        return (
            f'layer {{ name: "{name}" type: "Python" {bottom} top: "{top}"'
            f' python_param {{ module: "rpn" layer: "{layer}" }} }}\n'
        )

    net = make_net(
        folder,
        one("images", "Images", [], "data")
        + one("targets", "Targets", ["data"], "label")
        + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" }\n'
        + one("same", "Same", ["data", "label"], "same"),
    )
    for size in ((3, 4), (2, 2), (5, 1)):
        net.layers[0].size = size
        found = net.forward()
        x = np.arange(2.0 * size[0] * size[1]).reshape(2, -1) % 3
        assert found["loss"] == pytest.approx(np.mean(np.log(np.exp(x).sum(0)) - x[1]), 1e-6)
        assert net.blobs["label"].shape == (1, 1, *size)
        net.backward()
    targets = net.layer_dict["targets"]
    targets.extra = 1
    for _ in range(2):  # what does not fit when it is the layer's turn, is an error every time
        with pytest.raises(ShapeError) as error:
            net.forward()
        assert str(error.value).removeprefix(str(folder)) == (
            '/net.prototxt:3:61: layer "loss" (SoftmaxWithLoss): bottom "label" (1, 1, 6, 1) must hold 5 labels, not 6:'
            ' one for each row of bottom "data" (1, 2, 5, 1) along axis 1'
        )
    targets.extra = 0
    assert net.forward()["same"].tolist() == [1]
