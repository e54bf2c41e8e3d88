"""Who sees that parameters were written: nets that keep what they made of weights must use the weights as they are."""

import gc

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.memory import Arena

CONVOLUTION = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 16 dim: 6 dim: 6 } } }
layer {
  name: "conv" type: "Convolution" bottom: "x" top: "h"
  convolution_param { num_output: 32 kernel_size: 3 weight_filler { type: "gaussian" std: 0.1 } }
}
"""
NORMALISED = """
layer { name: "bn" type: "BatchNorm" bottom: "h" top: "h" }
layer { name: "scale" type: "Scale" bottom: "h" top: "h" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "h" top: "h" }
"""
LAST = 'layer { name: "last" type: "Power" bottom: "h" top: "y" power_param { shift: 1 } }'
X = np.random.default_rng(0).normal(size=(2, 16, 6, 6)).astype(np.float32)


def net(text=CONVOLUTION + NORMALISED, phase=lf.TEST, **how):
    made = lf.Net(schema.parse(text + LAST, "NetParameter"), phase, seed=1, **how)
    for layer, blobs in made.params.items():
        for i, blob in enumerate(blobs):
            if layer == "bn":
                blob.data[...] = [0.5, 2, 1][i]
    return made


def output(made):
    """Of a pass in which the convolution computes all of h: nobody looks at that."""
    return made.forward(x=X)["y"].copy()


def as_it_should_be(made):
    """The output by a net that has just been made, with the same parameters."""
    fresh = lf.Net(made.definition, made.phase, seed=2, share_with=made)
    return output(fresh)


def check(made, before):
    after = output(made)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, as_it_should_be(made))
    np.testing.assert_array_equal(after, output(made))


@pytest.mark.parametrize("text", [CONVOLUTION, CONVOLUTION + NORMALISED])
@pytest.mark.parametrize("how", ["at once", "held", "a view", "a parameter", "a layer", "owned", "flat", "memoryview"])
def test_what_people_write_to_weights_is_used(text, how):
    made = net(text)
    held = {
        "at once": lambda: None,
        "held": lambda: made.params["conv"][0].data,
        "a view": lambda: made.params["conv"][0].data[3:, 1],
        "a parameter": lambda: made.params["conv"][0],
        "a layer": lambda: made.layers[1],
        "owned": lambda: made.owned[0],
        "flat": lambda: made.params["conv"][0].data.flat,
        "memoryview": lambda: memoryview(made.params["conv"][0].data),
    }[how]()
    before = output(made)
    np.testing.assert_array_equal(before, output(made))
    for factor in (2, 3):  # the second time after a pass with the first
        if how == "at once":
            made.params["conv"][0].data[...] *= factor
        elif how in ("a parameter", "owned"):
            held.data[...] *= factor
        elif how == "a layer":
            held.blobs[0].data[...] *= factor
        elif how == "flat":
            held[:] = np.array(held) * factor
        elif how == "memoryview":
            np.asarray(held)[...] *= factor
        else:
            held *= factor
        check(made, before)
        before = output(made)
    if how == "held":
        held *= 4
        del held  # after the last write, before the next pass
        check(made, before)


@pytest.mark.parametrize(
    ("layer", "index"), [("conv", 0), ("conv", 1), ("bn", 0), ("bn", 1), ("bn", 2), ("scale", 0), ("scale", 1)]
)
def test_every_parameter_counts(layer, index):
    made = net()
    before = output(made)
    made.params[layer][index].data[...] += 0.25
    check(made, before)


def test_weights_that_are_loaded_are_used(tmp_path):
    made, other = net(), net()
    before = output(made)
    other.params["conv"][0].data[...] *= 2
    other.save(tmp_path / "other.caffemodel")
    made.copy_from(tmp_path / "other.caffemodel")
    check(made, before)


def test_weights_of_another_net_are_used():
    trained = net(phase=lf.TRAIN)
    made = net(share_with=trained)
    before = output(made)
    trained.params["conv"][0].data[...] *= 2
    check(made, before)
    before = output(made)
    output(trained)  # which moves the averages
    check(made, before)
    late, before = net(), output(made)
    before = output(late)
    late.share_with(made)
    check(late, before)


def test_what_a_solver_learns_is_used(tmp_path):
    solver = lf.get_solver(
        schema.parse(
            f"""base_lr: 0.1 lr_policy: "fixed" test_iter: 1 test_interval: 100 snapshot_prefix: "{tmp_path}/s"
            snapshot_after_train: false
            net_param {{
              {CONVOLUTION} {NORMALISED} {LAST}
              layer {{ name: "t" type: "Input" top: "t" input_param {{ shape {{ dim: 2 dim: 32 dim: 4 dim: 4 }} }} }}
              layer {{ name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }}
            }}""",
            "SolverParameter",
        )
    )
    made = solver.test_nets[0]
    solver.net.blobs["x"].data[...] = made.blobs["x"].data[...] = X
    made.forward()
    before = made.blobs["y"].data.copy()
    for _ in range(2):
        solver.step(1)
        made.forward()
        after = made.blobs["y"].data.copy()
        assert not np.array_equal(before, after)
        fresh = lf.Net(made.definition, lf.TEST, share_with=made)
        fresh.blobs["x"].data[...] = X
        fresh.forward()
        np.testing.assert_allclose(fresh.blobs["y"].data, after, rtol=1e-5)  # its blobs lie in another order
        before = after
    solver.close()


def test_what_a_callback_writes_is_used_in_the_same_pass():
    made = net()
    before = output(made)
    held = made.params["conv"][0]
    scales = iter([2.0, 1.0])
    made.before_forward(lambda i: held.data.__imul__(next(scales)) if i == 1 else None)
    after = output(made)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, output(made))


def test_what_a_python_layer_writes_is_used_in_the_same_pass():
    source, conv = CONVOLUTION.split("layer {\n")
    meddler = f"""layer {{ name: "meddler" type: "Python" bottom: "x" top: "x2"
                          python_param {{ module: "{__name__}" layer: "Meddler" }} }}"""
    text = source + meddler + "layer {\n" + conv.replace('bottom: "x"', 'bottom: "x2"')
    made = net(text)
    Meddler.weights = made.params["conv"][0].data
    first, second = output(made), output(made)
    np.testing.assert_allclose(second - 1, 2 * (first - 1), rtol=1e-5, atol=1e-6)  # less the last layer's shift
    Meddler.weights = None


class Meddler(lf.Layer):
    """Doubles somebody's weights."""

    weights = None

    def setup(self, bottom, top): ...

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        if Meddler.weights is not None:
            Meddler.weights *= 2


def test_an_arena_is_seen_as_long_as_nobody_holds_arrays():
    arena = Arena(None, 0, np.float32)
    start = arena.seen()
    arena.version += 1
    later = arena.seen()
    assert None not in (start, later) and later != start
    held = np.asarray(memoryview(np.zeros(4, np.float32)))
    arena.hold(held)
    view = held[1:3]
    assert arena.seen() is None
    del held
    gc.collect()
    assert arena.seen() is None
    del view
    gc.collect()
    assert arena.seen() not in (None, start, later)
    arena.show()
    assert arena.seen() is None


def test_weights_that_nobody_can_have_changed_are_not_read_again():
    made = net()
    output(made)
    node = made.nodes[1]
    conv = node.layer

    def is_repeated():
        return conv.again.holds(conv, node.bottom[0], node.top[0], conv.joined.slope)

    assert is_repeated()
    held = made.params["conv"][0].data
    output(made)
    assert not is_repeated()
    del held
    output(made)
    assert is_repeated()
    assert made.layers[1] is conv
    output(made)
    assert not is_repeated()
