"""Layers that compute what follows them: who does, that nobody can tell, and how they are parted."""

import numpy as np
import pytest
import shown

import layerforge as lf
from layerforge import _csrc, engines, schema
from layerforge.fusion import Affine, Normalise, Rectify, leading
from layerforge.layer import registry
from layerforge.layers.eltwise import Eltwise
from layerforge.layers.relu import ReLU

START = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 16 dim: 9 dim: 7 } } }
"""
SCALE = """scale_param {
    bias_term: true filler { type: "gaussian" mean: 1 std: 0.3 } bias_filler { type: "gaussian" std: 1 }
}"""


def random_net(seed, depthwise=False):
    """A chain of what may be fused and of what may not, some of it in place, with side branches. ``depthwise``: with
    such convolutions, and without engines that part them from their neighbours."""
    rng = np.random.default_rng(seed)
    text, blob, number = START, "data", 0

    def add(kind, top=None, bottoms=None, options=""):
        nonlocal text, blob, number
        number += 1
        top = top or f"b{number}"
        given = " ".join(f'bottom: "{name}"' for name in bottoms or [blob])
        text += f'layer {{ name: "{kind.lower()}{number}" type: "{kind}" {given} top: "{top}" {options} }}\n'
        blob = top

    def convolve():
        bias = rng.choice(["true", "false"])
        engine = "" if depthwise else rng.choice(["", "engine: CAFFE"])
        group = rng.choice([1, 16]) if depthwise else 1
        taps = 3 if group > 1 else rng.choice([1, 3])
        add(
            "Convolution",
            options=f"convolution_param {{ num_output: 16 kernel_size: {taps} pad: {taps // 2} bias_term: {bias}"
            f" {engine} group: {group} weight_filler {{ type: 'msra' }} }}",
        )

    def normalise():
        options = ["", "batch_norm_param { use_global_stats: true }", "batch_norm_param { use_global_stats: false }"]
        add("BatchNorm", rng.choice([None, blob]), options=rng.choice(options))

    def follow():
        if rng.random() < 0.8:
            add("Scale", rng.choice([None, blob], p=[0.2, 0.8]), options=rng.choice([SCALE, ""]))
        if rng.random() < 0.7:
            slope = rng.choice(["", "relu_param { negative_slope: 0.1 }"])
            add("ReLU", rng.choice([None, blob], p=[0.2, 0.8]), options=slope)

    convolve()
    for _ in range(4):
        before = blob
        convolve()
        if rng.random() < 0.7:
            normalise()
        follow()
        if rng.random() < (0.2 if depthwise else 0.5):
            others = [blob, before] + ([before] if rng.random() < 0.3 else [])
            coefficients = rng.choice(["", "coeff: 2 coeff: -0.5" + " coeff: 1.5" * (len(others) - 2)])
            add("Eltwise", bottoms=others, options=f"eltwise_param {{ {coefficients} }}")
            follow()
    add("InnerProduct", "end", options="inner_product_param { num_output: 4 weight_filler { type: 'xavier' } }")
    add("Reduction", "loss", options="reduction_param { operation: SUMSQ } loss_weight: 0.5")
    return text + "force_backward: true"


def make(text, phase=lf.TRAIN, **options):
    net = lf.Net(schema.parse(text, "NetParameter"), phase, seed=3, **options)
    rng = np.random.default_rng(1)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    for name, parameters in net.params.items():
        if name.startswith("batchnorm"):
            for parameter, (low, high) in zip(parameters, ((-1, 1), (0.5, 2), (1, 1)), strict=True):
                parameter.data[...] = rng.uniform(low, high, parameter.shape)
    return net


def everything(net):
    """With what the parameters are: running statistics among them."""
    parameters = {f"{name} {i}": np.array(p.data) for name, each in net.params.items() for i, p in enumerate(each)}
    return shown.everything(net) | parameters


def backward(net, look, middle):
    """A backward pass; for the look "part", in two parts, and for "callback", with one from then on."""
    if look == "callback":
        net.before_backward(lambda layer: None)
    if look == "part":
        net.run_backward(len(net.nodes) - 1, middle)
        net.run_backward(middle - 1, 0)
    else:
        net.run_backward()


def show(net, kind, names):
    """Looks at the data or the diffs of these blobs, where ``kind`` is one of these."""
    if kind in ("data", "diff"):
        for name in names:
            getattr(net.blobs[name], kind)


def assert_same(found, expected, tolerance=1e-4):
    assert list(found) == list(expected)
    size = max([np.abs(values).max() for key, values in expected.items() if key.endswith("diff")], default=0)
    for key, values in expected.items():
        level = size if key.endswith("diff") else np.abs(values).max()
        np.testing.assert_allclose(found[key], values, rtol=tolerance, atol=tolerance * level, err_msg=key)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("device, depthwise", [("cpu", False), ("cpu", True), ("emulated", False)])
def test_random_nets(seed, phase, reuse, device, depthwise):
    text = random_net(seed, depthwise)
    if phase == lf.TEST and reuse:
        text = text.replace("force_backward: true", "")
    apart = make(text, phase, fuse=False, reuse=reuse, device=device)
    net = make(text, phase, reuse=reuse, device=device)
    assert not apart.fused and (net.fused or device == "emulated")  # where convolutions take nothing on
    for _ in range(2 if device == "cpu" else 4):  # some of them replayed
        for each in (apart, net):
            each.clear_param_diffs()
            each.run_forward()
            if phase == lf.TRAIN or not reuse:
                each.run_backward()
    assert net.fused
    assert_same(everything(net), everything(apart))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
@pytest.mark.parametrize("device, depthwise", [("cpu", False), ("cpu", True), ("emulated", False)])
def test_backward_after_looking(seed, phase, device, depthwise):
    """What each layer keeps for backward is made up for, also where forward passes kept nothing."""
    text = random_net(seed, depthwise)
    if phase == lf.TEST:
        text = text.replace("force_backward: true", "")
    nets = [make(text, phase, fuse=False, device=device), *(make(text, phase, device=device) for _ in range(3))]
    for i, net in enumerate(nets):
        net.run_forward()
        if i == 1:
            for name in list(net.blobs)[::2]:
                net.blobs[name].data  # noqa: B018
        elif i == 2:
            net.before_backward(lambda layer: None)  # it might look
        net.clear_param_diffs()
        if i == 3:  # a part
            net.run_backward(len(net.nodes) - 1, 5)
            net.run_backward(4, 0)
        else:
            net.run_backward()
    expected = everything(nets[0])
    assert not nets[2].fused and not nets[3].fused
    for net in nets[1:]:
        assert_same(everything(net), expected)


RESIDUAL = (
    START
    + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "batchnorm2" type: "BatchNorm" bottom: "conv2" top: "conv2" }
layer { name: "scale2" type: "Scale" bottom: "conv2" top: "conv2" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }
layer { name: "relu2" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "batchnorm3" type: "BatchNorm" bottom: "sum" top: "bn3" }
layer { name: "scale3" type: "Scale" bottom: "bn3" top: "bn3" }
layer { name: "relu3" type: "ReLU" bottom: "bn3" top: "bn3" }
layer { name: "loss" type: "Reduction" bottom: "bn3" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""
)


def test_who_is_fused():
    net = make(RESIDUAL)
    assert net.fused == {
        "scale2": "batchnorm2",
        "relu2": "sum",
        "scale3": "batchnorm3",
        "relu3": "batchnorm3",
    }
    assert "x" not in net.layer_dict["scale2"].state  # one copy is enough
    net = make(RESIDUAL, lf.TEST)
    assert net.fused == {
        "relu1": "conv1",
        "batchnorm2": "conv2",
        "scale2": "conv2",
        "relu2": "sum",
        "scale3": "batchnorm3",
        "relu3": "batchnorm3",
    }
    assert make(RESIDUAL, dtype=np.float64).fused == {}


def separable(in_place):
    """Convolutions of single taps and of single channels in turn, with BatchNorm, Scale and ReLU behind each."""
    text, blob = START.replace("dim: 16", "dim: 3"), "data"
    for i, (kernel, group) in enumerate([(3, 1), (3, 32), (1, 1), (3, 32), (1, 1)]):
        top = f"conv{i}" if in_place else f"bn{i}"
        text += f"""
layer {{ name: "conv{i}" type: "Convolution" bottom: "{blob}" top: "conv{i}" convolution_param {{
  num_output: 32 kernel_size: {kernel} pad: {kernel // 2} group: {group} bias_term: false
  weight_filler {{ type: "msra" }} }} }}
layer {{ name: "batchnorm{i}" type: "BatchNorm" bottom: "conv{i}" top: "{top}" }}
layer {{ name: "scale{i}" type: "Scale" bottom: "{top}" top: "{top}" {SCALE} }}
layer {{ name: "relu{i}" type: "ReLU" bottom: "{top}" top: "{top}" }}"""
        blob = top
    loss = 'type: "Reduction" top: "loss" loss_weight: 1 reduction_param { operation: SUMSQ }'
    return text + f'layer {{ name: "loss" bottom: "{blob}" {loss} }}'


LOOKS = ["", "data", "diff", "data between", "diff between", "callback", "part", "recompute"]


@pytest.mark.skipif(not hasattr(_csrc, "depthwise_forward"), reason="only AVX-512 computes them together")
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("look", LOOKS)
def test_depthwise_convolutions_and_what_is_around_them(in_place, look):
    """They normalise what they read, count what they write, and sum what the layer before learns by."""
    text = separable(in_place) + ("memory: RECOMPUTE" if look == "recompute" else "")
    apart, net = make(text, fuse=False), make(text)
    joined = {group.first.layer.name: group.first.layer.joined for group in net.storage.fused}
    assert [name for name, of in joined.items() if of.waits and of.summed] == ["batchnorm0", "batchnorm2"]
    assert [name for name, of in joined.items() if of.measured] == ["batchnorm1", "batchnorm3"]
    for i in range(3):
        for each in (apart, net):
            each.clear_param_diffs()
            each.run_forward()
            names = [name for name in each.blobs if name not in ("data", "loss")][i::3]
            show(each, look.removesuffix(" between"), names if look.endswith("between") else [])
            backward(each, look if i == 1 else "", 9)
            show(each, look, names)
    assert_same(everything(net), everything(apart))


WAITING = RESIDUAL.replace('name: "loss" type: "Reduction"', 'name: "loss" type: "Convolution"').replace(
    'top: "loss" loss_weight: 1\n        reduction_param { operation: SUMSQ }',
    """top: "loss"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } }""",
)


# The sum takes the place of its other bottom, which the convolution does not read.
IN_PLACE = WAITING.replace(
    'layer { name: "conv2" type: "Convolution" bottom: "conv1"',
    """layer { name: "between" type: "Convolution" bottom: "conv1" top: "between"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "conv2" type: "Convolution" bottom: "between\"""",
)


@pytest.mark.skipif(engines.block("cpu", np.float32) == 1, reason="only oneDNN adds to what it convolves")
@pytest.mark.parametrize("text", [WAITING, IN_PLACE], ids=["", "in place"])
@pytest.mark.parametrize("how", ["forward", "look", "want", "backward", "part", "callback", "change", "shape"])
def test_a_convolution_that_waits_for_the_sum(how, text):
    """Where nothing needs to be kept, the last convolution of a residual branch is computed as the sum reads it."""
    found = []
    for fuse in (True, False):
        net = make(text, lf.TEST, fuse=fuse)
        waits = [group.first.layer.name for group in net.storage.fused if group.reader is not None]
        assert waits == (["conv2"] if fuse else [])
        at = {view.data.ctypes.data for view in (net.views["sum"], net.views["conv1"])}
        assert len(at) == (1 if fuse and text is IN_PLACE else 2)
        net.run_forward()
        if how == "look":
            net.blobs["conv2"].data  # noqa: B018
        elif how == "want":
            outputs = net.forward(["conv2", "sum"])
            found.append({key: np.array(value) for key, value in outputs.items()})
            continue
        elif how == "backward":
            net.blobs["loss"].diff[...] = 1
            net.run_backward()
            assert not fuse or net.fused["scale2"] == "conv2"  # not in the sum any more, but here
            net.run_forward()
        elif how == "part":
            net.forward(start="scale2")
        elif how == "callback":
            net.after_forward(lambda i: None)
            net.run_forward()
        elif how == "change":
            net.params["conv2"][0].data[...] *= 2
            net.params["batchnorm2"][1].data[...] *= 2
            net.run_forward()
        elif how == "shape":
            net.blobs["data"].reshape(2, 16, 5, 6)
            net.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((2, 16, 5, 6))
            net.run_forward()
        found.append({name: np.array(net.blobs[name].data) for name in reversed(list(net.blobs))})
    assert_same(found[0], found[1])


ELSEWHERE = (
    START
    + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "batchnorm1" type: "BatchNorm" bottom: "conv1" top: "bn1" }
layer { name: "scale1" type: "Scale" bottom: "bn1" top: "bn1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "bn1" top: "bn1" }
layer { name: "conv2" type: "Convolution" bottom: "bn1" top: "conv2"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "relu2" }
layer { name: "conv3" type: "Convolution" bottom: "relu2" top: "conv3"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "batchnorm3" type: "BatchNorm" bottom: "conv3" top: "bn3" }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "bn3" top: "sum" }
layer { name: "relu3" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "conv4" type: "Convolution" bottom: "sum" top: "conv4"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "relu4" type: "ReLU" bottom: "conv4" top: "out" }
"""
)


def test_convolutions_write_where_another_layer_would():
    net, apart = make(ELSEWHERE, lf.TEST), make(ELSEWHERE, lf.TEST, fuse=False)
    assert net.fused == {
        "batchnorm1": "conv1", "scale1": "conv1", "relu1": "conv1", "relu2": "conv2", "batchnorm3": "conv3",
        "relu3": "sum", "relu4": "conv4",
    }  # fmt: skip
    assert net.memory_bytes()["data"] <= apart.memory_bytes()["data"]
    for each in (net, apart):
        each.run_forward()
        each.run_forward()
    np.testing.assert_allclose(net.blobs["out"].data, apart.blobs["out"].data, rtol=1e-4, atol=1e-4)
    assert len(net.fused) == 7  # what they write is there
    np.testing.assert_allclose(net.blobs["conv1"].data, apart.blobs["conv1"].data, rtol=1e-4, atol=1e-4)
    assert "batchnorm1" not in net.fused and "relu2" in net.fused
    assert_same({k: v for k, v in everything(net).items() if k.endswith("data")},
                {k: v for k, v in everything(apart).items() if k.endswith("data")})  # fmt: skip
    for each in (net, apart):
        each.blobs["data"].data[...] *= -1
        each.run_forward()
    np.testing.assert_allclose(net.blobs["out"].data, apart.blobs["out"].data, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(engines.block("cpu", np.float32) == 1, reason="only oneDNN rectifies what it convolves")
@pytest.mark.parametrize("slope, fused", [("", True), ("relu_param { negative_slope: 0.1 }", False)])
def test_rectifiers_behind_convolutions_that_learn(slope, fused):
    text = (
        START
        + f"""
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{
  num_output: 32 kernel_size: 3 weight_filler {{ type: "msra" }} bias_filler {{ type: "gaussian" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" {slope} }}
layer {{ name: "loss" type: "Reduction" bottom: "conv" top: "loss" loss_weight: 1
  reduction_param {{ operation: SUMSQ }} }}
force_backward: true"""
    )
    apart, net = make(text, fuse=False), make(text)
    assert net.fused == ({"relu": "conv"} if fused else {})
    for each in (apart, net):
        each.run_forward()
        each.run_backward()
    assert_same(everything(net), everything(apart))
    net = make(text)
    net.blobs["data"].data[0, 0, 5, 5] = np.nan
    assert np.isnan(net.run_forward())  # nobody trains on without seeing it


RECTIFIED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 32 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
  num_output: 64 kernel_size: 3 pad: 1 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" %s }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param {
  num_output: 64 kernel_size: 3 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" %s }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "conv3" type: "Convolution" bottom: "pool" top: "conv3" convolution_param {
  num_output: 16 kernel_size: 1 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu3" type: "ReLU" bottom: "conv3" top: "conv3" %s }
layer { name: "lrn" type: "LRN" bottom: "conv3" top: "lrn" lrn_param { alpha: 0.5 } }
layer { name: "conv4" type: "Convolution" bottom: "lrn" top: "conv4" convolution_param {
  num_output: 16 kernel_size: 1 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu4" type: "ReLU" bottom: "conv4" top: "conv4" %s }
layer { name: "all" type: "Concat" bottom: "lrn" bottom: "conv4" top: "all" }
layer { name: "loss" type: "Reduction" bottom: "all" top: "loss" loss_weight: 1e-3
  reduction_param { operation: SUMSQ } }
force_backward: true"""
LEAKY = "relu_param { negative_slope: 0.25 }"


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("slope", ["", LEAKY])
@pytest.mark.parametrize("look", ["", "data", "diff", "diff between", "callback", "part", "TEST"])
def test_rectifiers_whose_backward_pass_the_reader_computes(look, slope, device):
    text, phase = RECTIFIED % ((slope,) * 4), lf.TEST if look == "TEST" else lf.TRAIN
    apart, net = (make(text, phase, fuse=fuse, device=device) for fuse in (False, True))
    found = {(below.node.layer.name, below.reader.layer.name) for below in net.storage.below}
    wanted = {("relu1", "conv2")} if device == "cpu" and hasattr(_csrc, "WinogradConvolution") else set()
    wanted |= {("relu3", "lrn"), ("relu4", "all")} | (set() if slope or look == "TEST" else {("relu2", "pool")})
    assert found == wanted
    for i in range(3):
        for each in (apart, net):
            each.clear_param_diffs()
            each.run_forward()
            if look == "diff between":
                each.blobs["conv1"].diff  # noqa: B018
            backward(each, look if i == 1 else "", 4)
            show(each, look, [["conv1", "conv2", "all"][i]])
    assert_same(everything(net), everything(apart))


PRODUCT = (
    START
    + """
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" %s inner_product_param {
    num_output: 40 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" %s }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param {
    num_output: 5 weight_filler { type: "msra" } bias_term: false } }
layer { name: "relu2" type: "ReLU" bottom: "ip2" top: "ip2" }
layer { name: "loss" type: "Reduction" bottom: "ip2" top: "loss" loss_weight: 1
  reduction_param { operation: SUMSQ } }
force_backward: true"""
)


@pytest.mark.parametrize("slope", ["", LEAKY])
@pytest.mark.parametrize("multipliers", ["", "param { lr_mult: 0 }", "param { } param { lr_mult: 0 }"])
@pytest.mark.parametrize("look", ["", "data", "diff", "part", "TEST"])
def test_a_product_rectifies_where_it_adds_the_bias(look, multipliers, slope):
    text, phase = PRODUCT % (multipliers, slope), lf.TEST if look == "TEST" else lf.TRAIN
    apart, net = (make(text, phase, fuse=fuse, device="emulated") for fuse in (False, True))
    assert net.fused == {"relu1": "ip1"}  # without a bias there is nothing to gain
    assert not make(text, phase, device="cpu").fused and not make(text, phase, device="emulated", dtype="float64").fused
    for i in range(3):
        for each in (apart, net):
            each.clear_param_diffs()
            each.run_forward()
            backward(each, look if i == 1 else "", 4)
            show(each, look, ["ip1"])
    assert_same(everything(net), everything(apart))


def test_what_another_layer_reads_is_written():
    read_twice = (
        'layer { name: "pool" type: "Pooling" bottom: "conv1" top: "p" pooling_param { global_pooling: true } }'
    )
    fused = make(ELSEWHERE + read_twice, lf.TEST).fused
    assert not {"batchnorm1", "scale1", "relu1"} & {name for name, first in fused.items() if first == "conv1"}
    learns = make(ELSEWHERE, lf.TRAIN).fused
    assert "conv1" not in learns.values() and learns["scale1"] == "batchnorm1"


def test_looking_parts():
    net = make(RESIDUAL)
    net.run_forward()
    assert "scale2" in net.fused
    net.blobs["conv2"].data  # noqa: B018
    assert "scale2" not in net.fused and "relu2" in net.fused
    net.forward(start="sum")
    assert net.fused == {}


def test_a_part_of_the_net():
    """Partial passes see and leave what they do with every layer on its own."""
    found = []
    for fuse in (True, False):
        net = make(RESIDUAL, fuse=fuse)
        net.forward_backward()
        net.forward(end="batchnorm2")
        halfway = np.array(net.blobs["conv2"].data)
        net.forward(start="scale2")
        net.clear_param_diffs()
        net.backward(end="scale2")
        found.append(everything(net) | {"halfway": halfway})
    assert_same(found[0], found[1])


def test_callbacks_and_debug_info_see_each_layer(caplog):
    seen = []
    for fuse in (True, False):
        net = make(RESIDUAL, fuse=fuse)
        net.run_forward()
        values = []
        net.after_forward(lambda i, net=net, values=values: values.append(np.array(net.nodes[i].top[0].data)))
        net.run_forward()
        seen.append(values)
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    lines = []
    for fuse in (True, False):
        net = make(RESIDUAL, fuse=fuse)
        caplog.clear()
        with caplog.at_level("INFO", "layerforge.net"):
            net.debug_info = True
            net.forward_backward()
        lines.append([message.rsplit(":", 1)[0] for message in caplog.messages])
        assert net.fused == {}
    assert lines[0] == lines[1]


def test_written_values_are_read():
    """An array once given stays the blob's: the rectifier's gradient follows what is written there."""
    found = []
    for fuse in (True, False):
        net = make(RESIDUAL, fuse=fuse)
        net.run_forward()
        net.blobs["bn3"].data[:, ::2] = 0
        net.clear_param_diffs()
        net.run_backward()
        found.append(everything(net))
    assert_same(found[0], found[1])


def test_weights_that_change_are_followed():
    net, apart = make(RESIDUAL, lf.TEST), make(RESIDUAL, lf.TEST, fuse=False)
    for each in (net, apart):
        each.run_forward()
        each.params["conv2"][0].data[...] *= 2
        each.params["scale2"][1].data[...] += 1
        each.params["batchnorm2"][0].data[...] += 1
    for each in (net, apart):
        loss = each.run_forward()
    assert np.isclose(loss, net.run_forward(), rtol=1e-5) and net.fused


def test_after_an_update():
    """What is computed late is what the pass computed, with the weights of then."""
    found = []
    for fuse in (True, False):
        message = schema.message("SolverParameter")(base_lr=0.1, lr_policy="fixed", momentum=0.9, random_seed=1)
        message.net_param.CopyFrom(schema.parse(RESIDUAL, "NetParameter").message)
        solver = lf.get_solver(message)
        net = solver.net
        if not fuse:
            net.storage.part()
        net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
        solver.step(3)
        assert bool(net.fused) is fuse
        found.append(everything(net))
        solver.step(1)
        found[-1] |= {f"{name} then": np.array(net.blobs[name].data) for name in net.blobs}
    assert_same(found[0], found[1])


def test_looking_at_a_sum_parts_what_it_computes():
    net, apart = make(RESIDUAL), make(RESIDUAL, fuse=False)
    for each in (net, apart):
        each.run_forward()
        each.blobs["sum"].data[:] *= 2
        each.run_backward()
    assert net.fused == {}
    assert_same(everything(net), everything(apart))


def test_bits_repeat():
    found = []
    for _ in range(2):
        net = make(RESIDUAL)
        net.forward_backward()
        found.append(everything(net))
    for key, values in found[0].items():
        np.testing.assert_array_equal(found[1][key], values, key)


def test_a_new_shape():
    found = []
    for fuse in (True, False):
        net = make(RESIDUAL, fuse=fuse)
        net.forward_backward()
        net.blobs["data"].reshape(2, 16, 6, 6)
        net.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((2, 16, 6, 6))
        net.clear_param_diffs()
        net.forward_backward()
        found.append(everything(net))
    assert_same(found[0], found[1])


@pytest.fixture
def own_types():
    """Types that a test registers are forgotten after it."""
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


def test_a_class_that_changes_the_pass_is_not_fused(own_types):
    """What ReLU says of itself is not true of this one."""

    class Negative(ReLU):
        type = "ReLU"
        Options = "relu_param"

        def forward(self, bottom, top):
            top[0].data[...] = -bottom[0].data

    assert make(RESIDUAL).fused == {"scale2": "batchnorm2", "scale3": "batchnorm3"}


def test_a_sum_with_another_gradient_shares_none(own_types):
    class Half(Eltwise):
        type = "Eltwise"
        Options = "eltwise_param"

        def backward(self, bottom, top):
            for x in bottom:
                x.diff[...] = top[0].diff / 2

    net = make(RESIDUAL)
    net.forward_backward()
    assert net.fused == {name: by for name, by in net.fused.items() if by != "sum"}
    half = net.blobs["sum"].diff / 2
    np.testing.assert_array_equal(net.blobs["conv1_relu1_0_split_1"].diff, half)


def test_a_layer_of_one_s_own_takes_part(own_types):
    class Positive(lf.Layer):
        """y = max(x, 0)"""

        in_place = True
        blocks = "alike"

        def as_step(self):
            return Rectify(0)

        def forward(self, bottom, top):
            np.maximum(bottom[0].data, 0, out=top[0].data)

        def backward(self, bottom, top):
            bottom[0].diff[...] = top[0].diff * (bottom[0].data > 0)

    found = []
    for kind in ("Positive", "ReLU"):
        net = make(RESIDUAL.replace('"ReLU"', f'"{kind}"'))
        net.forward_backward()
        assert "relu3" in net.fused
        found.append(everything(net))
    assert_same(found[0], found[1])


def test_leading():
    affine, rectify = Affine(None, None), Rectify(0.0)
    assert leading([affine, rectify, rectify], Affine, Rectify) == 2
    assert leading([rectify, affine], Affine, Rectify) == 1
    assert leading([Normalise(None), affine], Affine) == 0
