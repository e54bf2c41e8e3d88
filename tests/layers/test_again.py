"""Calls that are repeated as they are: only where everything is as it was."""

import weakref

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.blob import View
from layerforge.layers._again import Again

TEXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 16 dim: 9 dim: 9 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "last" type: "Power" bottom: "sum" top: "y" power_param { scale: 2 } }
"""


class Some:
    parameters_seen, scratch, joined = 1, np.zeros(1), object()


@pytest.fixture
def called():
    """A layer, its views, and a call of it that counts."""
    layer, x, y, term = Some(), *(View(name, (1,), np.zeros(1)) for name in "xyt")
    calls, again = [], Again()
    again.keep(lambda: calls.append(1), layer, x, y, 0.5, term)
    return layer, x, y, term, again, calls


def test_the_same_call_is_made(called):
    layer, x, y, term, again, calls = called
    assert again.run(layer, x, y, 0.5, term) and again.run(layer, x, y, 0.5, term)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "what", ["x", "y", "term", "no term", "slope", "order", "scratch", "joined", "seen", "unknown"]
)
def test_another_call_is_not(called, what):
    layer, x, y, term, again, calls = called
    slope = 0.5
    match what:
        case "x" | "y" | "term":
            {"x": x, "y": y, "term": term}[what].data = np.zeros(1)
        case "no term":
            term = None
        case "slope":
            slope = 0.0
        case "order":
            y.block = 16
        case "scratch" | "joined":
            setattr(layer, what, np.ones(1))
        case "seen" | "unknown":
            layer.parameters_seen = 2 if what == "seen" else None
    assert not again.run(layer, x, y, slope, term) and not calls


def test_nor_with_another_number_of_threads(called, set_threads):
    layer, x, y, term, again, calls = called
    set_threads(lf.get_threads() + 1)
    assert not again.run(layer, x, y, 0.5, term) and not calls


def test_what_cannot_be_repeated(called):
    layer, x, y, term, again, _ = called
    again.keep(None, layer, x, y, 0.5, term)
    assert not again.run(layer, x, y, 0.5, term)


@pytest.mark.parametrize("between", ["nothing", "a look", "another shape", "threads", "a part"])
def test_whatever_happens_between_passes(between, set_threads):
    rng = np.random.default_rng(1)
    net = lf.Net(schema.parse(TEXT, "NetParameter"), lf.TEST, seed=1)
    for number in range(4):
        images = 1 + (number // 2 if between == "another shape" else 0)
        x = rng.standard_normal((images, 16, 9, 9)).astype(np.float32)
        net.blobs["x"].reshape(*x.shape)
        found = net.forward(x=x)["y"].copy()
        fresh = lf.Net(schema.parse(TEXT, "NetParameter"), lf.TEST, seed=1, fuse=False, reuse=False)
        fresh.blobs["x"].reshape(*x.shape)
        np.testing.assert_allclose(found, fresh.forward(x=x)["y"], rtol=1e-4, atol=1e-5)
        if number == 1 and between == "a look":
            np.testing.assert_allclose(net.blobs["a"].data, fresh.blobs["a"].data, rtol=1e-4, atol=1e-5)
        elif between == "threads":
            set_threads(1 + number % 3)
        elif number == 1 and between == "a part":
            net.forward(start="b", end="sum")


def test_no_array_is_held_where_nothing_can_be_repeated(called):
    layer, x, y, term, again, _ = called
    layer.parameters_seen = None
    again.keep(lambda: None, layer, x, y, 0.5, term)
    old = weakref.ref(x.data)
    x.data = np.zeros(1)
    assert old() is None
