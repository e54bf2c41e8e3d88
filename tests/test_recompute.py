"""Blobs that are computed again for the backward pass: nobody can tell, but for the memory."""

import logging

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema

NET = """
memory: RECOMPUTE
layer { name: "in" type: "Input" top: "data" top: "label" input_param {
  shape { dim: 4 dim: 3 dim: 16 dim: 16 } shape { dim: 4 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "a" type: "Convolution" bottom: "norm1" top: "a"
  convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "b" type: "Convolution" bottom: "norm1" top: "b"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "both" }
layer { name: "conv2" type: "Convolution" bottom: "both" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
AGAIN = ["norm1", "both", "pool"]


def make(text=NET, phase=lf.TRAIN, **options):
    net = lf.Net(schema.parse(text, "NetParameter"), phase, seed=1, **options)
    random = np.random.default_rng(1)
    net.blobs["data"].data[...] = random.normal(size=(4, 3, 16, 16))
    net.blobs["label"].data[...] = random.integers(0, 5, 4)
    return net


def plain(text=NET):
    return text.replace("memory: RECOMPUTE\n", "").replace(" recompute: true", "")


def passes(net, count=3):
    """Losses and parameter diffs of some passes, with another batch each time."""
    found = []
    for i in range(count):
        net.blobs["data"].data[...] *= 1 + i
        net.clear_param_diffs()
        found.append((net.forward_backward(), net.arena.diff.copy()))
    return found


def assert_equal(found, expected):
    for (loss, diffs), (other_loss, other_diffs) in zip(found, expected, strict=True):
        assert loss == other_loss
        assert diffs.any()
        assert (diffs == other_diffs).all()


def roots(net):
    return [piece.root for piece in net.storage.pieces]


@pytest.mark.parametrize("engine", ["CAFFE", "DEFAULT"])
@pytest.mark.parametrize("reuse", [True, False])
def test_the_same_bits(engine, reuse):
    text = NET.replace("convolution_param {", f"convolution_param {{ engine: {engine}")
    net, other = make(text, reuse=reuse), make(plain(text), reuse=reuse)
    assert roots(net) == AGAIN
    assert roots(other) == []
    assert_equal(passes(net), passes(other))
    assert net.memory_bytes()["data"] < other.memory_bytes()["data"]


def test_blobs_in_the_same_place():
    """norm1 and pool are never needed at the same time; the arena is no larger than what is."""
    net = make()
    sizes = {name: net.views[name].count * 4 for name in AGAIN}
    assert net.storage.data.arena.nbytes < sum(sizes.values())


def test_a_blob_that_is_looked_at_holds_what_the_pass_gave_it():
    net, other = make(), make(plain())
    passes(net)
    passes(other)
    for name in other.blobs:
        assert (net.blobs[name].data == other.blobs[name].data).all(), name
    assert roots(net) == []
    assert_equal(passes(net), passes(other))


def test_a_look_between_forward_and_backward():
    net, other = make(), make(plain())
    for one in (net, other):
        one.clear_param_diffs()
        one.run_forward()
    assert (net.blobs["conv1"].data == other.blobs["conv1"].data).all()
    assert (net.blobs["norm1"].data == other.blobs["norm1"].data).all()
    net.run_backward()
    other.run_backward()
    assert (net.arena.diff == other.arena.diff).all()


def test_a_blob_that_is_asked_for_is_kept():
    net, other = make(), make(plain())
    assert (net.forward(["norm1"])["norm1"] == other.forward(["norm1"])["norm1"]).all()
    assert roots(net) == ["both", "pool"]
    net.run_backward()
    other.run_backward()
    assert (net.arena.diff == other.arena.diff).all()


@pytest.mark.parametrize("first", ["pool", "b"])
def test_a_part_of_a_pass(first):
    net, other = make(), make(plain())
    for one in (net, other):
        one.clear_param_diffs()
        one.run_forward()
        one.backward(end=first)
    assert (net.arena.diff == other.arena.diff).all()


def test_training():
    solver = schema.message("SolverParameter")(base_lr=0.1, lr_policy="fixed", momentum=0.9, random_seed=1, max_iter=9)
    weights = []
    for text in (NET, plain()):
        solver.net_param.CopyFrom(schema.parse(text, "NetParameter").message)
        made = lf.get_solver(solver, reuse=True)
        made.net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=(4, 3, 16, 16))
        made.step(5)
        weights.append(np.concatenate([blob.data.ravel() for blobs in made.net.params.values() for blob in blobs]))
        if text == NET:
            assert roots(made.net) == AGAIN
            assert np.isfinite(made.net.blobs["norm1"].data).all(), "also after the update: it has no weights"
    assert (weights[0] == weights[1]).all()


def test_layers_by_name():
    """Also one with weights, which is not cheap."""
    named = NET.replace("memory: RECOMPUTE\n", "")
    for name in ("both", "drop", "conv2"):
        named = named.replace(f'layer {{ name: "{name}"', f'layer {{ name: "{name}" recompute: true')
    net, other = make(named), make(plain(named))
    assert roots(net) == ["both"], "conv2 cannot be: its bottom is computed again"
    assert_equal(passes(net), passes(other))
    named = NET.replace('name: "b"', 'name: "b" recompute: true').replace(
        'name: "both"', 'name: "both" recompute: false'
    )
    net = make(named)
    assert roots(net) == ["norm1", "pool"], "b cannot be: its bottom is computed again"
    named = plain(NET).replace('name: "b"', 'name: "b" recompute: true')
    net = make(named)
    assert roots(net) == ["b"]
    assert_equal(passes(net), passes(make(plain())))


def test_a_layer_with_weights_that_changed_since(caplog):
    net = make(plain(NET).replace('name: "b"', 'name: "b" recompute: true'))
    passes(net, 1)
    net.arena.changed()
    with caplog.at_level(logging.WARNING):
        assert np.isnan(net.blobs["b"].data).all()
    assert caplog.messages == [
        'What the last pass left in the data of "b" is gone: its memory was used again, and the net has changed since.'
        " It reads as NaN until the next pass; make the net with reuse=False to keep everything."
    ]
    other = make(plain())
    passes(other, 1)
    assert_equal(passes(net), passes(other))


def test_nets_for_use_keep_nothing_for_backward():
    assert roots(make(phase=lf.TEST)) == []


def test_a_device_that_does_not(caplog):
    with caplog.at_level(logging.WARNING):
        net = make(device="emulated")
    assert roots(net) == []
    assert caplog.messages == ["memory: RECOMPUTE has no effect on EMULATED: all that backward reads is kept"]


def test_the_summary_names_them(tmp_path, capsys):
    from layerforge.cli import main

    (tmp_path / "net.prototxt").write_text(NET)
    assert main(["summary", str(tmp_path / "net.prototxt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "Computed again for backward: norm1, both, drop, pool."
