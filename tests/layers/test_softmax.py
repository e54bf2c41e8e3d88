import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize(
    "options, shape, axis",
    [
        ("", (3, 5), 1),
        ("", (3, 5, 4, 2), 1),
        ("softmax_param { axis: 2 }", (3, 5, 4, 2), 2),
        ("softmax_param { axis: -1 engine: CUDNN }", (3, 5, 4, 2), 3),
        ("softmax_param { axis: 0 }", (6,), 0),
        ("", (2, 1, 3), 1),
        ("", (2, 1000), 1),
    ],
)
def test_softmax(options, shape, axis):
    check_layer(f'type: "Softmax" {options}', [shape], lambda x: softmax(x, axis), in_place=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_do_not_overflow(dtype):
    bench = Bench('type: "Softmax"', [(2, 3)], dtype=dtype)
    (y,) = bench.forward([[[1e30, 1e30, -1e30], [-5000, -4000, -np.inf]]], {})
    assert y.tolist() == [[0.5, 0.5, 0], [0, 1, 0]]


def test_no_classes():
    bench = Bench('type: "Softmax"', [(2, 0, 3)])
    assert bench.forward([np.zeros((2, 0, 3))], {})[0].shape == (2, 0, 3)
    assert bench.backward([np.zeros((2, 0, 3))])[0][0].shape == (2, 0, 3)


def test_no_such_axis():
    with pytest.raises(ShapeError) as error:
        Bench('name: "prob" type: "Softmax" bottom: "fc8"\nsoftmax_param { axis: 2 }', [(3, 5)])
    assert str(error.value) == (
        '<text>:2:17: layer "prob" (Softmax): axis: 2 is no axis of bottom "fc8" (3, 5), which has 2 axes'
    )
