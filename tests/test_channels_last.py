"""Blobs that lie (N, spatial..., C), as on a GPU for convolutions that may round to TF32: who does, and that nobody can
tell. On the emulated device."""

import numpy as np
import pytest
from shown import assert_same, backward, everything

import layerforge as lf
from layerforge import engines, schema
from layerforge.cli.time import engine_of

# An inception block, a residual block, and layers that hold their neighbours together.
TEXT = """
force_backward: true
math_mode: "tf32"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 15 dim: 13 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
    num_output: 8 kernel_size: 3 weight_filler { type: "msra" } bias_filler { type: "gaussian" std: 0.1 } } }
layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "conv1" prelu_param { filler { type: "gaussian" std: 1 } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { alpha: 0.1 } }
layer { name: "a" type: "Convolution" bottom: "norm1" top: "a" convolution_param {
    num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "relu_a" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "norm1" top: "b" convolution_param {
    num_output: 6 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "msra" } } }
layer { name: "prelu_b" type: "PReLU" bottom: "b" top: "b" prelu_param { channel_shared: true } }
layer { name: "c" type: "Pooling" bottom: "norm1" top: "c" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param {
    num_output: 6 kernel_size: 3 pad: 2 dilation: 2 weight_filler { type: "msra" } } }
layer { name: "drop" type: "Dropout" bottom: "d" top: "d" }
layer { name: "both" type: "Concat" bottom: "a" bottom: "b" bottom: "d" top: "both" }
layer { name: "branch" type: "Convolution" bottom: "both" top: "branch" convolution_param {
    bias_term: false num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "branch" top: "branch" batch_norm_param { use_global_stats: false } }
layer { name: "scale" type: "Scale" bottom: "branch" top: "branch" scale_param {
    bias_term: true filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "sum" type: "Eltwise" bottom: "branch" bottom: "both" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "cut" type: "Slice" bottom: "sum" top: "left" top: "right" slice_param { slice_point: 5 } }
layer { name: "bias" type: "Bias" bottom: "left" top: "left" bias_param { filler { type: "gaussian" std: 1 } } }
layer { name: "e" type: "Convolution" bottom: "left" top: "e" convolution_param {
    num_output: 3 kernel_size: 2 stride: 2 weight_filler { type: "msra" } } }
layer { name: "f" type: "Convolution" bottom: "right" top: "f" convolution_param {
    num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "mean" type: "Pooling" bottom: "f" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "e" top: "ip" inner_product_param {
    num_output: 5 weight_filler { type: "xavier" } } }
"""
LAST = {
    "conv1", "pool1", "norm1", "norm1_norm1_0_split_0", "norm1_norm1_0_split_1", "norm1_norm1_0_split_2", "a", "b", "c",
    "d", "both", "both_both_0_split_0", "both_both_0_split_1", "branch", "sum", "left", "right", "f",
}  # fmt: skip
SHAPE = (2, 3, 15, 13)


def make(phase=lf.TRAIN, text=TEXT, **options):
    net = lf.Net(schema.parse(text, "NetParameter"), phase, seed=3, device="emulated", **options)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(SHAPE)
    return net


def lying(net):
    return {name for name, view in net.views.items() if view.block > 1}


def test_who_lies_so():
    net = make()
    assert lying(net) == set().union(*net.storage.groups) == LAST
    assert all(net.views[name].block == net.views[name].shape[1] for name in LAST)
    assert lying(make(lf.TEST, TEXT.replace("force_backward: true", ""))) == LAST


def test_it_is_told():
    engines = {node.layer.name: engine_of(node.layer) for node in make().nodes}
    assert (engines["branch"], engines["ip"]) == ("CAFFE, channels last", "CAFFE")


@pytest.mark.parametrize("text, options", [
    (TEXT.replace('math_mode: "tf32"', ""), {}),
    (TEXT, {"blocks": False}),
    (TEXT, {"dtype": np.float64}),
])  # fmt: skip
def test_who_does_not(text, options):
    assert not lying(make(text=text, **options))


def test_a_layer_that_does_not_know_of_it_keeps_its_neighbours_plain():
    """And nobody else."""
    text = TEXT.replace('name: "branch" type', 'name: "branch" math_mode: "float32" type')
    text = text.replace('bottom: "both" top: "sum"', 'bottom: "branch" top: "sum"')
    assert lying(make(text=text)) == LAST - {
        "a", "b", "d", "both", "branch", "branch_branch_0_split_0", "branch_branch_0_split_1", "sum", "left", "right",
        "both_both_0_split_0", "both_both_0_split_1",
    }  # fmt: skip


def test_on_a_cpu_channels_are_sliced_and_interleaved_in_plain_order_only():
    net = lf.Net(schema.parse(TEXT, "NetParameter"), lf.TEST, seed=3, device="cpu")
    assert not {"sum", "left", "right"} & lying(net)


@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
@pytest.mark.parametrize("options", [{}, {"reuse": False}, {"fuse": False}])
def test_the_same_numbers(phase, options):
    """In passes that are launched, and in those that are replayed."""
    found = []
    for blocks in (True, False):
        net = make(phase, blocks=blocks, **options)
        for _ in range(4):
            net.run_forward()
            backward(net)
        assert net.passes.apart == {} and bool(lying(net)) == blocks
        found.append(everything(net))
        assert bool(lying(net)) == blocks  # though somebody looked
    assert all(np.abs(values).max() > 0 for key, values in found[1].items() if not key.startswith("bn "))
    assert_same(*found)


def test_use_alone():
    """Nets that only run forward, whose blobs pass their memory on."""
    nets = [make(lf.TEST, TEXT.replace("force_backward: true", ""), blocks=blocks) for blocks in (True, False)]
    for _ in range(4):
        found, expected = ({name: np.array(value) for name, value in net.forward(["sum"]).items()} for net in nets)
        assert_same(found, expected)
    assert lying(nets[0]) == LAST


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_training(rule):
    text = (
        TEXT.replace("force_backward: true", "")
        + """
        layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 0.01
                reduction_param { operation: SUMSQ } }"""
    )
    losses = []
    for blocks in (True, False):
        recipe = f'type: "{rule}" base_lr: 0.01 momentum: 0.9 random_seed: 5 train_net_param {{ {text} }}'
        solver = lf.get_solver(schema.parse(recipe, "SolverParameter"), device="emulated", blocks=blocks)
        assert bool(lying(solver.net)) == blocks
        losses.append([])
        for turn in range(8):
            solver.net.blobs["data"].data[...] = np.random.default_rng(turn).standard_normal(SHAPE)
            solver.step(1)
            losses[-1].append(solver.loss)
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][0] > losses[0][-1] > 0


def test_looking_again_and_again_records_nothing_anew():
    found = []
    for blocks in (True, False):
        net, pieces = make(blocks=blocks), []
        for turn in range(6):
            net.blobs["data"].data[...] = np.random.default_rng(turn).standard_normal(SHAPE)
            net.run_forward()
            seen = np.array(net.blobs["conv1"].data)
            pieces.append(net.passes.forward_recorder.pieces)
        assert pieces[3] is not None and pieces[3] is pieces[4] is pieces[5]
        found.append({"conv1": seen})
    assert_same(*found)


@pytest.mark.parametrize("name, start", [("conv1", "pool1"), ("both", "both_both_0_split"), ("sum", "cut")])
def test_what_is_written_is_read(name, start):
    found = []
    for blocks in (True, False):
        net = make(blocks=blocks)
        net.run_forward()
        net.blobs[name].data[...] *= -2
        net.blobs[name].data[1, 2] = 3
        net.forward(start=start)
        found.append({key: np.array(net.blobs[key].data) for key in net.blobs})
    assert_same(*found)


def test_callbacks_that_look_see_plain_blobs():
    found = []
    for blocks in (True, False):
        net, seen = make(blocks=blocks), {}
        net.run_forward()
        backward(net)
        net.after_forward(
            lambda i, net=net, seen=seen: seen.update({v.name: net.device.to_numpy(v.data) for v in net.nodes[i].top})
        )
        assert not lying(net)
        net.run_forward()
        backward(net)
        found.append(seen | everything(net))
    assert_same(*found)


def test_who_gets_the_address_finds_plain_order_there(monkeypatch):
    net = make()
    net.run_forward()
    expected = np.array(net.blobs["conv1"].data)
    engines.convolution.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(type(net.device), "name", "gpu")
        patched.setitem(engines.ENGINES, "gpu", engines.ENGINES["emulated"])
        address = net.blobs["conv1"]._gpu_data_ptr
    engines.convolution.cache_clear()
    array = net.views["conv1"].data
    assert array.data.ptr == address and "conv1" not in lying(net) and "both" in lying(net)
    np.testing.assert_array_equal(net.device.to_numpy(array), expected)


def test_plain_order_between_forward_and_backward():
    """What layers keep, the places of maxima too, becomes plain with the blobs."""
    found = []
    for blocks in (True, False):
        net = make(blocks=blocks)
        for _ in range(3):
            net.run_forward()
            backward(net)
        net.run_forward()
        for name in ("norm1", "sum"):
            net.storage.lay_plain(name)
        assert not {"norm1", "c", "sum", "both", "left"} & lying(net)
        backward(net)
        found.append(everything(net))
    assert_same(*found)


def test_a_new_shape():
    found = []
    for blocks in (True, False):
        net = make(blocks=blocks)
        for _ in range(3):
            net.run_forward()
        net.blobs["data"].reshape(3, 3, 15, 13)
        net.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((3, 3, 15, 13))
        net.run_forward()
        backward(net)
        assert bool(lying(net)) == blocks
        found.append(everything(net))
    assert_same(*found)


def test_volumes():
    text = """
    math_mode: "tf32" force_backward: true
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 dim: 6 } } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
        num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "again" type: "Convolution" bottom: "conv" top: "again" convolution_param {
        num_output: 2 kernel_size: 2 weight_filler { type: "msra" } } }
    """
    found = []
    for blocks in (True, False):
        net = lf.Net(schema.parse(text, "NetParameter"), lf.TRAIN, seed=3, device="emulated", blocks=blocks)
        net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
        net.run_forward()
        backward(net)
        assert lying(net) == ({"conv"} if blocks else set())
        found.append(everything(net))
    assert_same(*found)
