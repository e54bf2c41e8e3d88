"""Blobs that lie in blocks of channels: who does, and that nobody can tell."""

import numpy as np
import pytest
from shown import assert_same, backward, everything

import layerforge as lf
from layerforge import engines, order, schema

BLOCK = engines.block("cpu", np.float32)

# A way through every layer that takes blocks, with the end of a group at each layer that does not.
TEXT = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 21 dim: 19 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 32 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" lrn_param { alpha: 0.1 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "a" type: "Convolution" bottom: "pool1" top: "a"
        convolution_param { num_output: 32 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "b" type: "Convolution" bottom: "pool1" top: "b"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "xavier" } } }
layer { name: "c" type: "Pooling" bottom: "pool1" top: "c"
        pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "sigmoid" type: "Sigmoid" bottom: "sum" top: "sigmoid" }
layer { name: "both" type: "Concat" bottom: "sigmoid" bottom: "c" top: "both" }
layer { name: "conv2" type: "Convolution" bottom: "both" top: "conv2"
        convolution_param { bias_term: false num_output: 32 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "conv2" batch_norm_param { use_global_stats: false } }
layer { name: "scale2" type: "Scale" bottom: "conv2" top: "conv2"
        scale_param { bias_term: true filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "bias2" type: "Bias" bottom: "conv2" top: "conv2"
        bias_param { filler { type: "gaussian" std: 1 } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { pool: AVE global_pooling: true } }
layer { name: "conv3" type: "Convolution" bottom: "both" top: "conv3"
        convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "prelu" type: "PReLU" bottom: "conv3" top: "conv3" }
layer { name: "ip" type: "InnerProduct" bottom: "pool2" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "ip3" type: "InnerProduct" bottom: "conv3" top: "ip3"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
IN_BLOCKS = {
    "conv1", "norm1", "pool1", "pool1_pool1_0_split_0", "pool1_pool1_0_split_1", "pool1_pool1_0_split_2", "a", "b", "c",
    "sum", "sigmoid", "both", "both_both_0_split_0", "both_both_0_split_1", "conv2",
}  # fmt: skip

pytestmark = pytest.mark.skipif(BLOCK == 1, reason="no engine here lays channels side by side")


def make(phase=lf.TRAIN, text=TEXT, **options):
    net = lf.Net(schema.parse(text, "NetParameter"), phase, seed=3, **options)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
    return net


def by_im2col():
    """The same net, in plain order and by the other engine."""
    net = make(text=TEXT.replace("convolution_param {", "convolution_param { engine: CAFFE"))
    assert not net.storage.groups
    return net


@pytest.fixture
def expected():
    net = by_im2col()
    net.run_forward()
    backward(net)
    return everything(net)


def test_who_lies_in_blocks():
    assert set().union(*make().storage.groups) == IN_BLOCKS
    engine = "convolution_param { engine: CAFFE"
    assert make(text=TEXT.replace("convolution_param {", engine)).storage.groups == []
    assert lf.Net(schema.parse(TEXT, "NetParameter"), lf.TRAIN, dtype=np.float64).storage.groups == []


def test_dropout_drops_the_same_in_blocks():
    text = TEXT.replace('bottom: "norm1"', 'bottom: "drop1"').replace(
        'layer { name: "pool1"',
        'layer { name: "drop1" type: "Dropout" bottom: "norm1" top: "drop1" }\nlayer { name: "pool1"',
    )
    found = []
    for engine in ("", "engine: CAFFE"):
        net = make(text=text.replace("convolution_param {", f"convolution_param {{ {engine}"))
        assert bool(net.storage.groups) == (not engine)
        net.run_forward()
        backward(net)
        found.append(everything(net))
    dropped = (found[0]["drop1 data"] == 0).mean()
    assert 0.65 < dropped < 0.85  # half of what the rectifier left
    assert_same(*found)


def test_engines_are_told_once(caplog):
    """b reads plain blobs only, so the blobs of its group lie plain, and a 1x1 convolution of those is im2col's."""
    with caplog.at_level("DEBUG", "layerforge.net"):
        make(text=TEXT.replace("group: 2", "engine: CAFFE")).run_forward()
    assert caplog.messages == ["Engine MKLDNN computes conv1, conv2, conv3, ip, ip3", "Engine CAFFE computes a, b"]


@pytest.mark.parametrize("reuse", [True, False])
def test_the_same_numbers(expected, reuse):
    net = make(reuse=reuse)
    for _ in range(2):
        net.run_forward()
        backward(net)
    assert set().union(*net.storage.groups) == IN_BLOCKS
    assert_same(everything(net), expected)
    assert net.storage.groups == []  # looked at, all of them


def test_looking_between_forward_and_backward(expected):
    net = make()
    net.run_forward()
    np.testing.assert_allclose(net.blobs["pool1"].data, expected["pool1 data"], rtol=1e-4, atol=1e-5)
    backward(net)
    assert net.storage.groups  # others stay in blocks
    assert_same(everything(net), expected)


@pytest.mark.parametrize("name", ["conv1", "both"])
def test_writing_what_was_looked_at(name):
    """An array once given stays the blob's: what is written there is read by the layers below."""
    found = []
    for net in (by_im2col(), make()):
        net.run_forward()
        array = net.blobs[name].data
        net.run_forward()
        array *= -2
        net.forward(start="pool1" if name == "conv1" else "conv2")
        found.append({key: np.array(net.blobs[key].data) for key in net.blobs})
    assert_same(found[1], found[0])


def test_inference(expected):
    for reuse in (True, False):
        net = make(phase=lf.TEST, reuse=reuse, text=TEXT.replace("force_backward: true", ""))
        assert set().union(*net.storage.groups) == IN_BLOCKS
        outputs = net.forward(["conv2"])
        assert_same({f"{k} data": v for k, v in outputs.items()}, {f"{k} data": expected[f"{k} data"] for k in outputs})


def test_callbacks_see_plain_blobs(expected):
    net = make()
    seen = {}
    net.after_forward(lambda i: seen.update({view.name: np.array(view.data) for view in net.nodes[i].top}))
    net.run_forward()
    assert_same(seen, {name: expected[f"{name} data"] for name in seen})


def test_a_new_shape():
    found = []
    for net in (by_im2col(), make()):
        net.run_forward()
        net.blobs["data"].reshape(3, 3, 21, 19)
        net.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((3, 3, 21, 19))
        net.run_forward()
        assert bool(net.storage.groups) is (len(found) > 0)
        backward(net)
        found.append(everything(net))
    assert_same(found[1], found[0])


@pytest.mark.parametrize("shape, block", [((2, 16, 3, 4), 8), ((1, 32, 5), 16), ((3, 8, 2, 3, 2), 8)])
def test_to_plain(shape, block):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    lies = np.moveaxis(x.reshape(shape[0], -1, block, *shape[2:]), 2, -1).copy().reshape(-1)
    order.to_plain(lies, shape, block)
    np.testing.assert_array_equal(lies.reshape(shape), x)


# Of each image, all channels may lie side by side: nothing changes their number but convolutions.
WHOLE = TEXT.replace('type: "Concat"', 'type: "Eltwise"').replace("num_output: 16", "num_output: 48")
whole = pytest.mark.skipif(BLOCK != 16, reason="who has shorter vectors keeps blocks of them")


def blocks(net):
    return {name: net.views[name].block for name in set().union(*net.storage.groups)}


def inferring(text=WHOLE, **options):
    return make(phase=lf.TEST, text=text.replace("force_backward: true", ""), **options)


@pytest.fixture
def by_columns():
    net = inferring(WHOLE.replace("convolution_param {", "convolution_param { engine: CAFFE"), reuse=False)
    assert not net.storage.groups
    net.run_forward()
    return net


@whole
def test_who_lies_whole():
    assert blocks(inferring()) == dict.fromkeys(IN_BLOCKS, 32)
    assert set(blocks(inferring(reuse=False)).values()) == {16}
    assert set(blocks(make(text=WHOLE)).values()) == {16}  # which learns
    assert set(blocks(inferring(TEXT)).values()) == {16}  # whose Concat has more channels above than below
    single_taps = WHOLE.replace("kernel_size: 3 weight", "kernel_size: 1 weight")
    single_taps = single_taps.replace("kernel_size: 3 pad: 1 group: 2", "kernel_size: 1")
    assert set(blocks(inferring(single_taps)).values()) == {16}


@whole
@pytest.mark.parametrize("fuse", [True, False])
def test_the_same_numbers_whole(by_columns, fuse, threads):
    net = inferring(fuse=fuse)
    for _ in range(2):
        outputs = net.forward()
    assert set(blocks(net).values()) == {32}
    assert_same(outputs, {name: by_columns.blobs[name].data for name in outputs})


@whole
@pytest.mark.parametrize("name", sorted(IN_BLOCKS))
def test_looking_at_one_that_lies_whole(by_columns, name):
    net = inferring()
    for _ in range(3):
        net.run_forward()
        assert_same({name: net.blobs[name].data}, {name: by_columns.blobs[name].data})
    outputs = net.forward()
    assert_same(outputs, {name: by_columns.blobs[name].data for name in outputs})
    assert name not in blocks(net) and set(blocks(net).values()) <= {32}


@whole
def test_gradients_whole(by_columns):
    net = make(phase=lf.TEST, text=WHOLE)
    assert set(blocks(net).values()) == {16}  # it is there for gradients
    net = inferring()
    assert set(blocks(net).values()) == {32}
    for each in (net, by_columns):
        each.run_forward()
        backward(each)
    for name, parameters in net.params.items():
        for i, parameter in enumerate(parameters):
            assert_same({f"{name} {i}": parameter.diff}, {f"{name} {i}": by_columns.params[name][i].diff})


@whole
def test_callbacks_see_plain_blobs_that_lay_whole(by_columns):
    net, seen = inferring(), {}
    net.run_forward()
    net.after_forward(lambda i: seen.update({view.name: np.array(view.data) for view in net.nodes[i].top}))
    net.run_forward()
    assert_same(seen, {name: by_columns.blobs[name].data for name in seen})


@whole
def test_another_shape_whole(by_columns):
    net = inferring()
    net.run_forward()
    for each in (net, by_columns):
        each.blobs["data"].reshape(3, 3, 21, 19)
        each.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((3, 3, 21, 19))
    assert_same(net.forward(), by_columns.forward())
    assert set(blocks(net).values()) == {32}
