"""The net: what its loops compute, parameters that are shared, shapes that change, and pycaffe's way of using it."""

import gc
import logging
import os
import weakref

import numpy as np
import pytest

import layerforge as lf
from layerforge import layer, schema
from layerforge.errors import DefinitionError, DeviceError, ShapeError
from layerforge.layer import Layer
from layerforge.testing import assert_close

DATA = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 5 dim: 2 dim: 3 dim: 4 } } }\n'
LABEL = 'layer { name: "in2" type: "Input" top: "label" input_param { shape { dim: 5 } } }\n'
FILL = 'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "constant" value: 2 }'


def product(name, bottom, outputs=3, more=""):
    options = f"inner_product_param {{ num_output: {outputs} {FILL} }}"
    return f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {more} {options} }}\n'


def euclidean(name, first, second, more=""):
    return (
        f'layer {{ name: "{name}" type: "EuclideanLoss" bottom: "{first}" bottom: "{second}" top: "{name}" {more} }}\n'
    )


def parse(text):
    return schema.parse(text, "NetParameter", "net.prototxt")


def net(text, phase=lf.TRAIN, seed=1, **options):
    made = lf.Net(parse(text), phase, seed=seed, **options)
    rng = np.random.default_rng(0)
    for name in made.inputs:
        made.blobs[name].data[...] = rng.normal(size=made.blobs[name].shape)
    return made


# Loss weights.


@pytest.mark.parametrize("weight", [None, 1, 0, 0.5, -2.5, 100])
def test_loss_weight_scales_loss_and_gradient(weight):
    def run(more):
        made = net(DATA + product("ip", "data") + product("to", "data") + euclidean("loss", "ip", "to", more))
        loss = made.forward_backward()
        return loss, made.params["ip"][0].diff

    loss, diff = run("")
    weighted, weighted_diff = run("" if weight is None else f"loss_weight: {weight}")
    factor = 1 if weight is None else weight
    assert weighted == pytest.approx(factor * loss, rel=1e-6)
    assert_close(weighted_diff, factor * diff, 1e-5)


def test_a_loss_in_the_middle():
    text = (
        DATA + product("ip", "data", more="loss_weight: {}") + product("more", "ip") + euclidean("loss", "more", "ip")
    )
    plain, weighted = (net(text.replace("{}", str(weight))) for weight in (0, 2))
    total = weighted.run_forward()
    assert total == pytest.approx(plain.run_forward() + 2 * plain.blobs["ip"].data.sum(dtype=np.float64), rel=1e-5)
    weighted.run_backward()
    plain.run_backward()
    # The derivative of the sum of all outputs by the bias is the size of the batch.
    assert_close(weighted.params["ip"][1].diff, plain.params["ip"][1].diff + 2 * 5, 1e-5)
    assert plain.outputs == ["loss"]
    assert weighted.outputs == ["ip_ip_0_split_0", "loss"]


def test_losses_add_up():
    text = DATA + product("ip", "data") + product("to", "data")
    for name, weight in (("one", 2), ("two", 3)):
        text += euclidean(name, "ip", "to", f"loss_weight: {weight}")
    both = net(text)
    single = net(DATA + product("ip", "data") + product("to", "data") + euclidean("loss", "ip", "to", "loss_weight: 5"))
    assert both.forward_backward() == pytest.approx(single.forward_backward(), rel=1e-6)
    assert_close(both.params["ip"][0].diff, single.params["ip"][0].diff, 1e-5)


def test_parameter_diffs_are_added_to():
    made = net(DATA + product("ip", "data") + product("to", "data") + euclidean("loss", "ip", "to"))
    made.forward_backward()
    once = made.params["ip"][0].diff.copy()
    made.forward_backward()
    assert_close(made.params["ip"][0].diff, 2 * once, 1e-6)
    made.clear_param_diffs()
    assert not any(parameter.diff.any() for parameter in made.owned)


def test_nothing_is_written_to_a_top_that_nobody_differentiates():
    """Half of a slice reaches the loss; the diff of the other half is zero, whatever else lay in its memory."""
    text = DATA + product("a", "data", 6) + 'layer { name: "s" type: "Sigmoid" bottom: "a" top: "s" }\n'
    text += 'layer { name: "c" type: "Slice" bottom: "s" top: "left" top: "right" }\n'
    text += 'layer { name: "q" type: "Silence" bottom: "right" }\n'
    text += "".join(product(f"b{i}", "left" if i == 0 else f"b{i - 1}", 3) for i in range(4))
    made = net(text + product("to", "data") + euclidean("loss", "b3", "to"))
    made.forward_backward()
    made.clear_param_diffs()
    made.forward_backward()
    weight = made.params["a"][0].diff
    assert weight[:3].any() and not weight[3:].any()
    assert made.storage.diff.shared


# Gradients where they go.


def test_propagate_down_stops_a_gradient():
    text = DATA + product("a", "data") + product("b", "a", more="propagate_down: false")
    made = net(text + euclidean("loss", "b", "a", "propagate_down: true propagate_down: false"))
    assert [node.runs_backward for node in made.nodes if node.layer.type == "InnerProduct"] == [False, True]
    made.forward_backward()
    assert made.params["b"][0].diff.any()
    assert not made.params["a"][0].diff.any()


@pytest.mark.parametrize("kind", ["ReLU", "TanH", "Softmax", "BatchNorm", "LRN", "Power"])
def test_propagate_down_stops_a_gradient_at_a_layer_that_learns_nothing(kind):
    text = (
        DATA + product("a", "data") + f'layer {{ name: "b" type: "{kind}" bottom: "a" top: "b" propagate_down: false }}'
    )
    made = net(text + product("c", "b") + euclidean("loss", "c", "c", "propagate_down: true propagate_down: false"))
    made.forward_backward()
    assert [node.layer.name for node in made.nodes if node.runs_backward] == ["c", "c_c_0_split", "loss"]
    assert not made.params["a"][0].diff.any()
    assert not made.blobs["a"].diff.any()


def test_force_backward_reaches_the_data():
    text = DATA + product("ip", "data", more="param { lr_mult: 0 } param { lr_mult: 0 }")
    quiet, forced = net(text), net("force_backward: true\n" + text)
    for made in (quiet, forced):
        made.run_forward()
        made.blobs["ip"].diff[...] = 1
        made.run_backward()
    assert not quiet.blobs["data"].diff.any()
    assert_close(forced.blobs["data"].diff.reshape(5, 24), np.ones((5, 3)) @ forced.params["ip"][0].data, 1e-6)
    assert forced.params["ip"][0].diff.any()


def test_accuracy_takes_no_part_in_backward():
    text = DATA + LABEL + product("ip", "data")
    text += 'layer { name: "a" type: "Accuracy" bottom: "ip" bottom: "label" top: "a" }\n'
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
    made = net(text)
    made.blobs["label"].data[...] = [0, 1, 2, 1, 0]
    made.forward_backward()
    with_accuracy = made.params["ip"][0].diff.copy()
    made = net(text.replace('layer { name: "a"', 'layer { exclude {} name: "a"'))
    made.blobs["label"].data[...] = [0, 1, 2, 1, 0]
    made.forward_backward()
    assert_close(with_accuracy, made.params["ip"][0].diff, 1e-7)


# Parameters that are shared by name.

SHARED = 'param {{ name: "{}" }} param {{ name: "{}" }}'


def two_products(names=("w", "b", "w", "b")):
    text = DATA + product("one", "data", more=SHARED.format(*names[:2]))
    return net(text + product("two", "data", more=SHARED.format(*names[2:])) + euclidean("loss", "one", "two"))


def test_sharers_have_one_memory():
    made = two_products()
    one, two = made.params["one"], made.params["two"]
    for mine, theirs in zip(one, two, strict=True):
        assert np.shares_memory(mine.data, theirs.data)
        assert np.shares_memory(mine.diff, theirs.diff)
    assert made.run_forward() == 0, "both compute the same"


def test_without_names_nothing_is_shared():
    made = two_products(("", "", "", ""))
    assert not np.shares_memory(made.params["one"][0].data, made.params["two"][0].data)
    assert made.run_forward() > 0


def test_diffs_of_sharers_add_up():
    def run(names):
        text = DATA + "".join(
            product(name, "data", more=SHARED.format(*some)) for name, some in zip(("one", "two"), names, strict=True)
        )
        text += product("to", "data") + euclidean("l1", "one", "to") + euclidean("l2", "two", "to", "loss_weight: 3")
        made = net(text)
        for mine, theirs in zip(made.params["one"], made.params["two"], strict=True):
            theirs.data[...] = mine.data
        made.forward_backward()
        return made

    together, apart = run([("w", "b")] * 2), run([("", "")] * 2)
    for i in range(2):
        total = apart.params["one"][i].diff + apart.params["two"][i].diff
        assert_close(together.params["one"][i].diff, total, 1e-5)
        assert_close(apart.params["two"][i].diff, 3 * apart.params["one"][i].diff, 1e-5)


def test_each_is_owned_once():
    made = two_products()
    assert len(made.owned) == 2
    assert made.arena.size == 128 + 64
    assert made.memory_bytes()["parameters"] == 192 * 4


def test_permissive_sharers_have_shapes_of_their_own():
    shapes = "input_param { shape { dim: 1 dim: 6 } shape { dim: 1 dim: 2 } }"
    text = f'layer {{ name: "in" type: "Input" top: "a" top: "b" {shapes} }}'
    text += product("one", "a", 2, 'param { name: "w" }')
    text += product("two", "b", 6, 'param { name: "w" share_mode: PERMISSIVE }')
    made = net(text)
    assert made.params["two"][0].data.shape == made.params["two"][0].diff.shape == (6, 2)
    assert np.shares_memory(made.params["two"][0].data, made.params["one"][0].data)
    made.params["one"][0].diff[...] = np.arange(12).reshape(2, 6)
    assert made.params["two"][0].diff.reshape(-1).tolist() == list(range(12))


# Nets that share parameters.


def test_a_net_that_shares_makes_no_parameters():
    text = DATA + product("ip", "data")
    train = net(text)
    test = net(text + product("more", "ip"), lf.TEST, share_with=train)
    assert test.params["ip"][0].data is not train.params["ip"][0].data
    assert np.shares_memory(test.params["ip"][0].data, train.params["ip"][0].data)
    assert not np.shares_memory(test.params["ip"][0].diff, train.params["ip"][0].diff)
    assert test.memory_bytes()["parameters"] == (64 + 64) * 4, "those of the layer that it alone has"
    assert test.params["more"][0].data.any(), "they are filled"
    train.params["ip"][0].data[...] = 7
    assert (test.params["ip"][0].data == 7).all()


def test_share_with_later():
    text = DATA + product("ip", "data")
    one, two = net(text), net(text, seed=2)
    before = two.forward()["ip"].copy()
    two.share_with(one)
    two.blobs["data"].data[...] = one.blobs["data"].data
    assert_close(two.forward()["ip"], one.forward()["ip"], 1e-7)
    assert not np.array_equal(two.forward()["ip"], before)
    one.params["ip"][1].data[...] += 1
    assert_close(two.forward()["ip"], one.forward()["ip"], 1e-7)


@pytest.mark.parametrize(
    "theirs, expected",
    [
        (
            product("ip", "data", 4),
            'layer "ip" (InnerProduct): parameter "weight" is (3, 24), and (4, 24) in the net it shares it with: the'
            " layers must be alike, or have different names",
        ),
        (
            product("ip", "data").replace("num_output", "bias_term: false num_output"),
            'layer "ip" (InnerProduct) has 2 parameters, and 1 in the net it shares them with: the layers must be'
            " alike, or have different names",
        ),
    ],
)
def test_nets_that_cannot_share(theirs, expected):
    other = net(DATA + theirs)
    with pytest.raises(ShapeError) as error:
        net(DATA + product("ip", "data"), share_with=other)
    assert str(error.value) == expected
    with pytest.raises(ShapeError) as error:
        net(DATA + product("ip", "data")).share_with(other)
    assert str(error.value) == expected


def test_nets_of_two_types_cannot_share():
    other = net(DATA + product("ip", "data"), dtype=np.float64)
    with pytest.raises(ShapeError) as error:
        net(DATA + product("ip", "data"), share_with=other)
    assert str(error.value) == (
        'layer "ip" (InnerProduct) has parameters of float32, and of float64 in the net it shares them with: make both'
        " nets with one dtype"
    )


# Parts of a net.

CHAIN = DATA + product("a", "data") + product("b", "a") + product("c", "b")


def test_forward_from_and_to():
    made = net(CHAIN)
    whole = made.forward()["c"].copy()
    made.blobs["data"].data[...] *= 2
    assert_close(made.forward(start="b")["c"], whole, 1e-7, "the data have not passed yet")
    assert list(made.forward(end="a")) == ["a"]
    assert_close(made.blobs["c"].data, whole, 1e-7)
    assert not np.array_equal(made.forward(start="b")["c"], whole)


def test_forward_writes_the_middle():
    made = net(CHAIN)
    made.forward()
    made.blobs["b"].data[...] = 1
    expected = np.ones((5, 3)) @ made.params["c"][0].data.T + 2
    assert_close(made.forward(start="c")["c"], expected, 1e-5)


def test_backward_from_and_to():
    made = net("force_backward: true\n" + CHAIN)
    made.forward()
    made.blobs["b"].diff[...] = 1
    found = made.backward(start="b", end="b")
    assert list(found) == ["a"]
    assert_close(found["a"], np.ones((5, 3)) @ made.params["b"][0].data, 1e-5)
    assert not made.blobs["data"].diff.any()
    assert not made.params["c"][0].diff.any()
    found = made.backward(c=np.ones((5, 3)), diffs=["b"])
    assert list(found) == ["data", "b"]
    assert found["data"].any()


def test_forward_returns_what_is_named():
    made = net(CHAIN, lf.TEST)
    assert list(made.forward(blobs=["a"])) == ["c", "a"]
    assert list(made.forward(["a", "c"], end="b")) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "call, kind, expected",
    [
        (lambda n: n.forward(x=1), DefinitionError, "forward was given x; the inputs of this net are data, label"),
        (
            lambda n: n.forward(data=1),
            DefinitionError,
            "forward was given data; the inputs of this net are data, label",
        ),
        (lambda n: n.backward(x=1), DefinitionError, "backward was given x; the outputs of this net are ip, label"),
        (lambda n: n.forward(start="i"), DefinitionError, 'this net has no layer "i". Did you mean "ip"?'),
        (lambda n: n.backward(end="none of it"), DefinitionError, 'this net has no layer "none of it".'),
        (lambda n: n.forward(blobs=["dta"]), DefinitionError, 'this net has no blob "dta". Did you mean "data"?'),
        (
            lambda n: n.forward(data=np.zeros((4, 2, 3, 4)), label=np.zeros(5)),
            ShapeError,
            '"data" has shape (5, 2, 3, 4); it was given an array of shape (4, 2, 3, 4)',
        ),
        (
            lambda n: n.forward(data=np.zeros((5, 2, 3, 4)), label=np.zeros((5, 1))),
            ShapeError,
            '"label" has shape (5,); it was given an array of shape (5, 1)',
        ),
    ],
)
def test_calls_that_do_not_fit(call, kind, expected):
    with pytest.raises(kind) as error:
        call(net(DATA + LABEL + product("ip", "data")))
    assert str(error.value) == expected


def test_inputs_may_be_broadcast():
    made = net(DATA)
    made.forward(data=np.arange(5).reshape(5, 1, 1, 1))
    assert made.blobs["data"].data[:, 1, 2, 3].tolist() == list(range(5))


# Shapes that change.

POOLS = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" }
layer { name: "softmax" type: "Softmax" bottom: "norm" top: "softmax" }
"""


@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
@pytest.mark.parametrize("explicit", [True, False])
def test_reshape_to_larger_and_smaller(phase, explicit):
    made = net(POOLS, phase)
    rng = np.random.default_rng(1)
    images = {shape: rng.normal(size=shape) for shape in [(4, 3, 9, 11), (1, 3, 8, 10), (2, 3, 12, 6)]}
    results = {}
    for _ in range(2):
        for shape, image in images.items():
            made.blobs["data"].reshape(*shape)
            if explicit:
                made.reshape()
                assert made.blobs["softmax"].shape == (shape[0], 5, *((n - 1) // 2 for n in shape[2:]))
            made.blobs["data"].data[...] = image
            found = made.forward()["softmax"]
            assert found.shape == (shape[0], 5, *((n - 1) // 2 for n in shape[2:]))
            assert_close(found, results.setdefault(shape, found.copy()), 1e-7)
    fresh = lf.Net(parse(POOLS.replace("dim: 1 dim: 3 dim: 8 dim: 10", "dim: 4 dim: 3 dim: 9 dim: 11")), phase, seed=1)
    assert_close(fresh.forward(data=images[4, 3, 9, 11])["softmax"], results[4, 3, 9, 11], 1e-7)


def test_reshape_to_nothing_and_back():
    made = net(POOLS)
    made.blobs["data"].reshape(0, 3, 8, 10)
    assert made.forward()["softmax"].shape == (0, 5, 3, 4)
    made.blobs["data"].reshape(1, 3, 8, 10)
    made.forward_backward()


def test_memory_grows_and_never_shrinks():
    made = net(POOLS)
    first = made.memory_bytes()["data"]
    made.blobs["data"].reshape(3, 3, 8, 10)
    made.reshape()
    second = made.memory_bytes()["data"]
    made.blobs["data"].reshape(1, 3, 8, 10)
    made.reshape()
    assert first < second == made.memory_bytes()["data"]


def test_a_shape_that_does_not_fit():
    made = net(POOLS)
    expected = made.forward()["softmax"].copy()
    image = made.blobs["data"].data.copy()
    made.blobs["data"].reshape(1, 4, 8, 10)
    for run in (made.reshape, made.forward, made.forward):
        with pytest.raises(ShapeError) as error:
            run()
    assert str(error.value) == (
        'net.prototxt:3:42: layer "conv" (Convolution): bottom "data" (1, 4, 8, 10) must have 3 channels on axis 1 and'
        " 2 spatial axes, as when the weights were made"
    )
    made.blobs["data"].reshape(1, 3, 8, 10)
    assert np.array_equal(made.forward(data=image)["softmax"], expected), "it recovers"


@pytest.fixture
def only_positive():
    """A layer whose top has as many elements as the bottom has positive ones."""

    class OnlyPositive(Layer):
        dynamic = True

        def top_shapes(self, x):
            return [(int(np.prod(x)),)]

        def forward(self, bottom, top):
            found = bottom[0].data[bottom[0].data > 0]
            top[0].reshape(*found.shape)
            top[0].data[...] = found

        differentiable = False

    yield
    del layer.registry["OnlyPositive"]


def test_shapes_that_follow_from_the_data(only_positive):
    made = net(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 } } }'
        'layer { name: "o" type: "OnlyPositive" bottom: "x" top: "y" }'
        'layer { name: "p" type: "Power" bottom: "y" top: "z" power_param { scale: 2 } }',
        lf.TEST,
    )
    for values, expected in (([1, -1, 2, -2], [2, 4]), ([1, 2, 3, 4], [2, 4, 6, 8]), ([-1] * 4, [])):
        assert made.forward(x=values)["z"].tolist() == expected
        assert made.blobs["y"].shape == made.blobs["z"].shape == (len(expected),)


# Memory and time.


def test_a_net_is_gone_when_nobody_has_it():
    gc.disable()
    try:
        made = net(POOLS + euclidean("loss", "softmax", "norm"))
        made.forward_backward()
        gone = weakref.ref(made)
        del made
        assert gone() is None, "reference counts are enough"
    finally:
        gc.enable()


def test_arrays_outlive_the_net():
    made = net(CHAIN, lf.TEST)
    made.forward()
    blobs, parameters = list(made.blobs.values()), [p for some in made.params.values() for p in some]
    kept = made.blobs["c"].data
    expected = kept.copy()
    del made
    total = sum(float(blob.data.sum() + blob.diff.sum()) for blob in blobs)
    total += sum(float(p.data.sum() + p.diff.sum()) for p in parameters)
    assert np.isfinite(total)
    del blobs, parameters
    gc.collect()
    assert np.array_equal(kept, expected)


def test_a_net_without_memory_knows_its_shapes():
    made = lf.Net(parse(CHAIN), lf.TEST, allocate=False)
    assert made.views["c"].data is None
    assert made.owned[0].data is None
    assert made.forward(data=np.ones((5, 2, 3, 4)))["c"].shape == (5, 3), "it takes memory when it runs"


def test_reuse_saves_memory():
    text = DATA + "".join(
        f'layer {{ name: "s{i}" type: "Sigmoid" bottom: "{f"s{i - 1}" if i else "data"}" top: "s{i}" }}\n'
        for i in range(10)
    )
    with_reuse, without = net(text, lf.TEST), net(text, lf.TEST, reuse=False)
    blob = 120 * 4
    assert without.memory_bytes()["data"] == 11 * blob
    # Source and output have their own; of the rest two are needed at once. A copy of the input is kept.
    assert with_reuse.memory_bytes()["data"] == 2 * blob + 2 * 128 * 4 + blob
    with_reuse.forward()
    assert_close(
        with_reuse.blobs["s3"].data, without.forward(data=with_reuse.blobs["data"].data, blobs=["s3"])["s3"], 1e-7
    )
    assert with_reuse.memory_bytes()["data"] == 11 * blob, "who looks keeps"


def test_values_that_are_gone_are_nan(caplog):
    made = net(CHAIN, lf.TEST)
    made.forward()
    made.params["b"][0].data[...] = 1
    made.arena.changed()
    assert np.isnan(made.blobs["a"].data).all()
    assert caplog.messages == [
        'What the last pass left in the data of "a", "b" is gone: its memory was used again, and the net has changed'
        " since. It reads as NaN until the next pass; make the net with reuse=False to keep everything."
    ]
    made.forward()
    assert np.isfinite(made.blobs["a"].data).all()


def test_diffs_of_a_pass_before_the_last_forward_are_gone(caplog):
    text = DATA + product("a", "data") + product("b", "a") + product("to", "data") + euclidean("loss", "b", "to")
    made, other = net(text), net(text, reuse=False)
    for one in (made, other):
        one.forward_backward()
        one.run_forward()
    assert np.isnan(made.blobs["a"].diff).all()
    assert other.blobs["a"].diff.any(), "without reuse nothing is ever gone"
    assert len(caplog.messages) == 1
    made.run_backward()
    other.run_backward()
    assert np.array_equal(made.blobs["a"].diff, other.blobs["a"].diff)


def test_parameters_lie_one_behind_the_other():
    made = net(CHAIN)
    (run,) = made.arena.runs
    assert run.data.size == run.diff.size == made.arena.size
    for parameter, offset in zip(made.owned, made.arena.offsets, strict=True):
        assert offset % 64 == 0
        assert np.shares_memory(parameter.data, run.data[offset : offset + parameter.count])
        assert np.shares_memory(parameter.diff, run.diff[offset : offset + parameter.count])


def test_runs_of_a_net_that_shares_a_part():
    one, two = net(CHAIN), net(CHAIN.replace('"b"', '"x"'))
    two.share_with(one)
    runs = two.arena.runs
    assert [run.within for run in runs] == [slice(0, 192), slice(192, 320), slice(320, 448)]
    assert [run.blocks for run in runs] == [slice(0, 3), slice(3, 5), slice(5, 7)]
    for run in runs:
        run.data[...] = 5
    assert (one.params["a"][0].data == 5).all() and (one.params["c"][1].data == 5).all()
    assert not (one.params["b"][0].data == 5).any()
    assert (two.params["x"][0].data == 5).all()


# Random numbers.


def test_one_seed_one_net():
    first, second, other = (net(CHAIN, seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(first.owned, second.owned, other.owned, strict=True):
        assert np.array_equal(a.data, b.data)
        assert a.shape == (3,) or not np.array_equal(a.data, c.data)


def test_parameters_of_one_layer_are_drawn_apart():
    made = net(DATA + product("p", "data").replace('"constant" value: 2', '"gaussian"'))
    weight, bias = made.owned
    assert not np.isin(bias.data, weight.data).any()


def test_each_pass_draws_anew():
    made = net(DATA + 'layer { name: "d" type: "Dropout" bottom: "data" top: "d" }')
    first = made.forward()["d"].copy()
    second = made.forward()["d"].copy()
    assert not np.array_equal(first, second)
    made.step -= 1
    assert np.array_equal(made.forward()["d"], second)


# Callbacks and what is logged.


def test_callbacks():
    made = net(CHAIN + product("to", "data") + euclidean("loss", "c", "to"), lf.TEST)
    seen = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(made, when)(lambda i, when=when: seen.append((when, i)))
    made.after_forward(lambda i: seen.append(float(made.blobs["a"].data[0, 0])))
    made.run_forward(0, 1)
    assert [one for one in seen if isinstance(one, tuple)] == [
        (when, i) for i in range(2) for when in ("before_forward", "after_forward")
    ]
    seen.clear()
    made.run_forward()
    made.run_backward()
    running = [i for i, node in enumerate(made.nodes) if node.runs_backward]
    assert [i for when, i in (one for one in seen if isinstance(one, tuple)) if when == "before_backward"] == running[
        ::-1
    ]
    assert seen[-2:] == [("before_backward", running[0]), ("after_backward", running[0])]


def test_a_callback_that_does_not_look_leaves_the_memory_alone():
    made = net(CHAIN, lf.TEST)
    made.before_forward(lambda i: None, looks=False)
    assert made.storage.data.shared
    made.before_forward(lambda i: None)
    assert not made.storage.data.shared


def test_debug_info(caplog):
    caplog.set_level(logging.INFO)
    text = (
        'debug_info: true\nlayer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 1 dim: 2 } } }'
    )
    text += 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param {} param { name: "shared" }'
    text += "inner_product_param { num_output: 2 weight_filler { value: 3 } bias_filler { value: -1 } } }"
    text += 'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }'
    made = lf.Net(parse(text), lf.TRAIN)
    made.blobs["x"].data[...] = [1, -2]
    made.blobs["t"].data[...] = [1, 1]
    made.forward_backward()
    assert [line for line in caplog.messages if not line.startswith("Engine")] == [
        "    [Forward] Layer in, top blob x data: 1.5",
        "    [Forward] Layer in, top blob t data: 1",
        "    [Forward] Layer ip, top blob y data: 4",
        "    [Forward] Layer ip, param blob 0 data: 3",
        "    [Forward] Layer ip, param blob shared data: 1",
        "    [Forward] Layer loss, top blob loss data: 25",
        "    [Backward] Layer loss, bottom blob y diff: 5",
        "    [Backward] Layer ip, param blob 0 diff: 7.5",
        "    [Backward] Layer ip, param blob 1 diff: 5",
        "    [Backward] All net params (data, diff): L1 norm = (14, 40); L2 norm = (6.16441, 17.3205)",
    ]
    caplog.clear()
    made.debug_info = False
    made.forward_backward()
    assert caplog.messages == []


def test_the_first_top_that_is_not_finite():
    made = net(CHAIN)
    made.run_forward()
    assert made.first_not_finite() is None
    made.params["b"][0].data[0, 0] = np.inf
    made.run_forward()
    found, view = made.first_not_finite()
    assert (found.name, view.name) == ("b", "b")


# Many items.


def test_forward_all():
    made = net(DATA + LABEL + product("ip", "data") + 'layer { name: "q" type: "Silence" bottom: "label" }', lf.TEST)
    rng = np.random.default_rng(0)
    items, labels = rng.normal(size=(12, 2, 3, 4)), rng.normal(size=12)
    found = made.forward_all(data=items, label=labels, blobs=["label"])
    assert_close(found["ip"], items.reshape(12, 24) @ made.params["ip"][0].data.T + 2, 1e-5)
    assert_close(found["label"], labels.astype(np.float32), 1e-7)


def test_forward_backward_all():
    made = net("force_backward: true\n" + DATA + product("ip", "data"))
    rng = np.random.default_rng(0)
    items, diffs = rng.normal(size=(7, 2, 3, 4)), rng.normal(size=(7, 3))
    forward, backward = made.forward_backward_all(data=items, ip=diffs, diffs=["ip"])
    assert_close(forward["ip"], items.reshape(7, 24) @ made.params["ip"][0].data.T + 2, 1e-5)
    assert_close(backward["data"].reshape(7, 24), diffs @ made.params["ip"][0].data, 1e-5)
    assert_close(backward["ip"], diffs, 1e-6)


def test_all_of_nothing():
    made = net(DATA + LABEL)
    with pytest.raises(ShapeError) as error:
        made.forward_all()
    assert str(error.value) == (
        "there are no items: give the net's inputs by name, each with its items along the first axis"
    )
    with pytest.raises(ShapeError) as error:
        made.forward_all(data=np.zeros((7, 2, 3, 4)), label=np.zeros(6))
    assert str(error.value) == '"label" has 6 items, but "data" has 7'


def test_scalars_come_one_for_each_batch():
    made = net(DATA + product("ip", "data") + product("to", "data") + euclidean("loss", "ip", "to"))
    assert made.forward_all(data=np.zeros((11, 2, 3, 4)))["loss"].shape == (3,)


# One file for train, val and deploy: as pycaffe's own tests have it.

STATES = """
layer { name: "data" type: "DummyData" include { phase: TRAIN stage: "train" } top: "data" top: "label"
        dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } } }
layer { name: "data" type: "DummyData" include { phase: TEST stage: "val" } top: "data" top: "label"
        dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } } }
layer { name: "data" type: "Input" include { phase: TEST stage: "deploy" } top: "data"
        input_param { shape { dim: 1 dim: 10 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "deep" type: "InnerProduct" bottom: "ip" top: "deep" inner_product_param { num_output: 2 }
        include { min_level: 1 phase: TRAIN } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
        include { phase: TRAIN stage: "train" } include { phase: TEST stage: "val" } }
layer { name: "loss" type: "Softmax" bottom: "ip" top: "loss" include { phase: TEST stage: "deploy" } }
"""


@pytest.mark.parametrize(
    "phase, level, stages, layers, inputs",
    [
        (lf.TRAIN, 0, ["train"], ["data", "ip", "loss"], []),
        (lf.TRAIN, 1, ["train"], ["data", "ip", "ip_ip_0_split", "deep", "loss"], []),
        (lf.TEST, 0, ["val"], ["data", "ip", "loss"], []),
        (lf.TEST, 0, ["deploy"], ["data", "ip", "loss"], ["data"]),
    ],
)
def test_one_file_for_all(tmp_path, phase, level, stages, layers, inputs):
    path = tmp_path / "all.prototxt"
    path.write_text(STATES)
    made = lf.Net(str(path), phase, level=level, stages=stages)
    assert list(made.layer_dict) == layers
    assert made.inputs == inputs
    assert made.phase == phase
    made.forward()


def test_pycaffes_old_order_of_arguments(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(CHAIN)
    one = lf.Net(str(path), lf.TEST, seed=1)
    one.save(tmp_path / "w.caffemodel")
    two = lf.Net(str(path), str(tmp_path / "w.caffemodel"), lf.TRAIN)
    assert two.phase == lf.TRAIN
    assert np.array_equal(two.params["a"][0].data, one.params["a"][0].data)


def test_the_definitions_own_state_without_a_phase():
    text = "state { phase: TRAIN stage: 'train' level: 1 }" + STATES
    assert list(lf.Net(parse(text)).layer_dict) == ["data", "ip", "ip_ip_0_split", "deep", "loss"]


# pycaffe's names


SMALL = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
"""


def test_pycaffe_s_name_of_the_first_argument(tmp_path):
    (tmp_path / "net.prototxt").write_text(SMALL)
    path = str(tmp_path / "net.prototxt")
    for made in (
        lf.Net(network_file=path, phase=lf.TEST),
        lf.Net(os.fsencode(path), lf.TEST),
        lf.Net(phase=lf.TEST, network_file=schema.read(path, "NetParameter").message),
    ):
        assert list(made.blobs) == ["x", "y"]
    for options in ({}, {"definition": path, "network_file": path}):
        with pytest.raises(DefinitionError) as caught:
            lf.Net(**options)
        assert str(caught.value) == "Net takes a prototxt: its path, or a NetParameter"


def test_what_pycaffe_s_methods_call():
    made = lf.Net(schema.parse("force_backward: true" + SMALL, "NetParameter"), lf.TRAIN)
    assert [blob.name for blob in made._blobs] == ["x", "y"]
    made._blobs[0].data[...] = 1
    assert made._forward(0, 1) == 0
    assert (made.blobs["y"].data == 2).all()
    made.blobs["y"].diff[...] = 1
    made._backward(1, 0)
    assert (made.blobs["x"].diff == 2).all()


def test_a_blob_on_the_cpu_has_no_address_on_a_gpu():
    made = lf.Net(schema.parse(SMALL, "NetParameter"), lf.TEST)
    for name in ("_gpu_data_ptr", "_gpu_diff_ptr"):
        with pytest.raises(DeviceError) as caught:
            getattr(made.blobs["x"], name)
        assert str(caught.value) == 'blob "x" lies on device "cpu": it has no address on a GPU'


PARTLY = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3, 8, 8] } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "one" type: "Convolution" bottom: "c" top: "one" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "flat" type: "Reshape" bottom: "c" top: "flat" reshape_param { shape { dim: [0, 72] } } }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "p" type: "Softmax" bottom: "fc" top: "p" }
"""


@pytest.mark.parametrize("reuse", [False, True])
def test_a_part_of_a_net_takes_a_shape_that_the_rest_does_not(reuse):
    """As pictures are dreamt up: layers behind the last one to run are not asked."""
    net = lf.Net(schema.parse(PARTLY, "NetParameter", "net.prototxt"), lf.TEST, seed=1, reuse=reuse)
    net.forward()
    alone = lf.Net(schema.parse(PARTLY.partition('layer { name: "one"')[0], "NetParameter"), lf.TEST, seed=1)
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 10, 12), (1, 3, 6, 5), (3, 3, 9, 9)):
        x, dy = rng.standard_normal(shape), rng.standard_normal((shape[0], 2, shape[2] - 2, shape[3] - 2))
        found = []
        for made in (net, alone):
            made.blobs["x"].reshape(*shape)
            for _ in range(2):
                made.blobs["x"].data[...] = x
                made.forward(end="r")
                made.blobs["c"].diff[...] = dy
                found.append([made.blobs["c"].data.copy(), made.backward(start="r")["x"].copy()])
        for one in found[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(one, found[0], strict=True))
    with pytest.raises(ShapeError) as caught:
        net.forward()
    assert str(caught.value) == (
        'net.prototxt:8:78: layer "flat" (Reshape): shape: (3, 72) has 216 values, but bottom "c" (3, 2, 7, 7) has 294'
    )
    net.forward(end="one")
    with pytest.raises(ShapeError):
        net.reshape()
    net.blobs["x"].reshape(2, 3, 8, 8)
    x = rng.standard_normal((2, 3, 8, 8))
    fresh = lf.Net(schema.parse(PARTLY, "NetParameter"), lf.TEST, seed=1)
    assert np.array_equal(net.forward(x=x)["p"], fresh.forward(x=x)["p"])
