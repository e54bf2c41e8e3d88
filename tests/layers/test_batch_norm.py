import logging
from types import SimpleNamespace

import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DefinitionError, ShapeError
from layerforge.layers import batch_norm
from layerforge.testing import Bench, assert_close, check_layer

RUNNING = {"mean": (-1, 1), "variance": (0.5, 2), "factor": 1.5}
SHAPES = [(4, 3, 2, 5), (6, 4), (5, 2, 7), (3, 2, 2, 3, 2), (7,)]


def run(bench, x, mean=0.5, variance=2.0, factor=1.5):
    """The top, from these running sums."""
    for parameter, value in zip(bench.layer.blobs, (mean, variance, factor), strict=True):
        parameter.data[...] = value
    return bench.forward([x], {})[0]


def channels(x, of):
    """One number for each channel, to meet x."""
    return of.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else of[0]


def by_batch(eps=1e-5):
    def formula(x, **running):
        axes = tuple(a for a in range(x.ndim) if a != 1)
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return (x - mean) / np.sqrt(variance + eps)

    return formula


def by_running(eps=1e-5):
    def formula(x, mean, variance, factor):
        return (x - channels(x, mean / factor)) / np.sqrt(channels(x, variance / factor) + eps)

    return formula


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options, phase, expected",
    [
        ("", lf.TRAIN, by_batch()),
        ("", lf.TEST, by_running()),
        ("use_global_stats: true eps: 0.01", lf.TRAIN, by_running(0.01)),
        ("use_global_stats: false eps: 0.01", lf.TEST, by_batch(0.01)),
        ("moving_average_fraction: 0.9 engine: CUDNN", lf.TRAIN, by_batch()),
    ],
)
def test_batch_norm(shape, options, phase, expected):
    definition = f'type: "BatchNorm" batch_norm_param {{ {options} }}'
    check_layer(definition, [shape], expected, phase=phase, parameters=RUNNING, in_place=True)


@pytest.mark.parametrize("shape", [(32, 4, 9, 9), (300, 70), (2, 3, 90, 90), (9, 33, 1, 1)])
def test_larger(shape):
    check_layer('type: "BatchNorm"', [shape], by_batch(), parameters=RUNNING, in_place=True)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-4), (np.float64, 1e-11)])
def test_a_mean_far_from_zero(dtype, tolerance):
    """The variance is that of the deviations; a difference of squares would be nothing but rounding."""
    x = (1000 + np.random.default_rng(0).standard_normal((8, 3, 20, 20))).astype(np.float32)
    bench = Bench('type: "BatchNorm"', [x.shape], dtype=dtype)
    assert_close(run(bench, x), by_batch()(x.astype(np.float64)), tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_counts(shape):
    """Caffe's sums: what was there is kept by a fraction, and the factor counts what they are divided by."""
    bench = Bench('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.75 }', [shape])
    x = np.random.default_rng(0).standard_normal(shape)
    run(bench, x, mean=2, variance=3, factor=1.5)
    axes = tuple(a for a in range(x.ndim) if a != 1)
    mean, variance, factor = (p.data for p in bench.layer.blobs)
    number = x.size // mean.size
    np.testing.assert_allclose(mean, 0.75 * 2 + np.ravel(x.mean(axes)), rtol=1e-12)
    np.testing.assert_allclose(variance, 0.75 * 3 + np.ravel(x.var(axes)) * number / (number - 1), rtol=1e-12)
    np.testing.assert_allclose(factor, 0.75 * 1.5 + 1, rtol=1e-12)


def test_one_value_in_each_channel():
    bench = Bench('type: "BatchNorm"', [(1, 3)])
    y = run(bench, [[1, 2, 3]], 0, 0, 0)
    assert not y.any() and [p.data.tolist() for p in bench.layer.blobs] == [[1, 2, 3], [0, 0, 0], [1]]


def test_what_is_not_counted():
    bench = Bench('type: "BatchNorm"', [(0, 3, 2)])
    run(bench, np.zeros((0, 3, 2)))
    assert bench.layer.params["factor"].data == 1.5
    bench = Bench('type: "BatchNorm"', [(4, 3, 2)])
    bench.layer.repeats = True
    run(bench, np.ones((4, 3, 2)))
    assert bench.layer.params["factor"].data == 1.5


def test_what_works_in_place_on_the_top_does_no_harm():
    text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 5 } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }
        layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
        layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
        layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
                reduction_param { operation: SUMSQ } }
    """
    diffs = []
    for where in ("y", "x"):
        definition = lf.schema.parse(text.replace('"y"', f'"{where}"') + "force_backward: true", "NetParameter")
        net = lf.Net(definition, lf.TRAIN)
        net.params["scale"][0].data[...] = [0.5, 2, 3]
        net.params["scale"][1].data[...] = [0.1, 0.2, 0.3]
        x = np.random.default_rng(0).standard_normal((4, 3, 5))
        net.blobs["x"].data[...] = x
        net.forward_backward()
        diffs.append(net.params["scale"][0].diff.copy())
        if where == "y":
            dx = net.blobs["x"].diff.copy()
    assert_close(diffs[1], diffs[0], 1e-6)

    def loss(x):
        y = by_batch()(x) * np.array([0.5, 2, 3]).reshape(-1, 1) + np.array([0.1, 0.2, 0.3]).reshape(-1, 1)
        return (np.maximum(y, 0) ** 2).sum()

    way = np.random.default_rng(1).standard_normal(x.shape)
    slope = (loss(x + 1e-6 * way) - loss(x - 1e-6 * way)) / 2e-6
    assert np.isclose((dx * way).sum(), slope, rtol=1e-3)


def test_never_counted(caplog):
    bench = Bench('name: "bn1" type: "BatchNorm"', [(2, 1)], phase=lf.TEST)
    for _ in range(2):
        y = run(bench, [[1], [2]], 5, 6, 0)
    np.testing.assert_allclose(y.ravel(), np.array([1, 2]) / np.sqrt(1e-5), rtol=1e-6)
    assert caplog.record_tuples == [
        (
            "layerforge.layers.batch_norm",
            logging.WARNING,
            'layer "bn1" (BatchNorm) has counted no statistics yet (its factor is 0): y = x / sqrt(eps).'
            " Load weights, or train first",
        )
    ]


def test_never_learnt():
    text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" param { name: "m" } param { decay_mult: 1 } }
        force_backward: true
    """
    net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TRAIN)
    assert [(p.lr_mult, p.decay_mult, p.needs_diff) for p in net.params["bn"]] == [(0, 0, False)] * 3


@pytest.mark.parametrize(
    "options, text",
    [
        (
            "param { lr_mult: 0 }\nparam { lr_mult: 0.5 }",
            ':2:9: layer "bn" (BatchNorm): lr_mult: 0.5 must be 0, because mean, variance and factor are counted, not'
            " learnt. Take the line out; a Scale layer with bias_term: true behind this one learns",
        ),
        (
            "batch_norm_param {\nscale_bias: true }",
            ':2:1: layer "bn" (BatchNorm): scale_bias: take the line out, and put a Scale layer with bias_term: true'
            " behind this one",
        ),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(DefinitionError) as caught:
        Bench(f'name: "bn" type: "BatchNorm" {options}', [(2, 3)])
    assert str(caught.value) == f"<text>{text}"


def test_bad_shapes():
    with pytest.raises(ShapeError) as caught:
        Bench('name: "bn" type: "BatchNorm"', [()])
    assert str(caught.value) == '<text>: layer "bn" (BatchNorm): bottom "bottom0" () must have an axis of items'
    layer = Bench('name: "bn" type: "BatchNorm"', [(2, 3)]).layer
    layer.bottom_shapes = ((2, 4),)
    with pytest.raises(ShapeError) as caught:
        layer.top_shapes((2, 4))
    assert (
        caught.value.message
        == 'layer "bn" (BatchNorm): bottom "bottom0" (2, 4) must have 3 channels, as it had at first'
    )


def test_looking_at_a_blob_counts_nothing():
    """In TEST a blob passes its memory on; whoever looks at it has the pass repeated."""
    layers = ['layer { name: "x" type: "Input" top: "b0" input_param { shape { dim: 4 dim: 3 } } }']
    for i in range(6):
        kind = 'type: "BatchNorm" batch_norm_param { use_global_stats: false }' if i == 2 else 'type: "ReLU"'
        layers.append(f'layer {{ name: "l{i}" {kind} bottom: "b{i}" top: "b{i + 1}" }}')
    net = lf.Net(lf.schema.parse("\n".join(layers), "NetParameter"), lf.TEST)
    x = np.random.default_rng(0).uniform(1, 2, (4, 3))
    net.blobs["b0"].data[...] = x
    net.forward()
    before = [p.data.copy() for p in net.params["l2"]]
    assert before[2] == 1
    assert_close(net.blobs["b3"].data, by_batch()(x), 1e-4)
    assert all(np.array_equal(p.data, b) for p, b in zip(net.params["l2"], before, strict=True))
    net.forward()
    assert net.params["l2"][2].data > 1.99


@pytest.mark.parametrize("lanes, expected", [(1, (3, 35)), (64, (15, 7)), (150, (21, 5)), (10**6, (105, 1))])
def test_lanes_on_a_gpu_where_channels_lie_side_by_side(monkeypatch, lanes, expected):
    """As many as are wanted, of equal length; what is computed is the same."""
    monkeypatch.setattr(batch_norm, "LANES", lanes)
    text = """
    force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 8 dim: 7 dim: 5 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }"""
    net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TRAIN, device="emulated")
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 8, 7, 5)).astype(np.float32)
    net.blobs["x"].data[...] = x
    net.forward()
    net.blobs["y"].diff[...] = dy
    net.backward()
    layer, device = net.layers[1], net.device

    def lies(array):
        made = device.empty(array.size)
        device.from_numpy(made, np.moveaxis(array, 1, -1).ravel())
        return made

    def plain(array):
        return np.moveaxis(device.to_numpy(array).reshape(3, 7, 5, 8), -1, 1)

    assert layer.lanes(x.shape, 8) == (expected[0], 8, expected[1]) and layer.lanes(x.shape, 4) == (3, 8, 35)
    bottom, top = (
        SimpleNamespace(data=lies(data), diff=lies(diff), shape=x.shape, block=8, count=x.size, needs_diff=True)
        for data, diff in ((x, x), (x, dy))
    )
    layer.forward((bottom,), (top,))
    layer.backward((bottom,), (top,))
    assert_close(plain(top.data), net.blobs["y"].data, 1e-5)
    assert_close(plain(bottom.diff), net.blobs["x"].diff, 1e-5)
    mean, variance, factor = (p.data for p in net.params["bn"])
    running = 0.999 + 1
    assert_close(mean, running * x.mean((0, 2, 3)), 1e-5)
    assert_close(variance, running * x.var((0, 2, 3)) * 105 / 104, 1e-5)
    assert factor == pytest.approx(running)
