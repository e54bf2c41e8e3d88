import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.testing import Bench, assert_close, check_layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_bnll(shape):
    check_layer('type: "BNLL"', [shape], lambda x: np.log(1 + np.exp(x)), in_place=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_does_not_overflow(dtype):
    bench = Bench('type: "BNLL"', [(4,)], dtype=dtype)
    assert bench.forward([[-np.inf, -1e4, 1e4, np.inf]], {})[0].tolist() == [0, 0, 1e4, np.inf]
    assert bench.backward([[1, 1, 1, 1]])[0][0].tolist() == [0, 0, 1, 1]


def test_what_works_in_place_behind_it_does_not_disturb_its_gradient():
    definition = schema.parse(
        'force_backward: true layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 9 } } }'
        'layer { name: "l" type: "BNLL" bottom: "x" top: "y" }'
        'layer { name: "p" type: "Power" bottom: "y" top: "y" power_param { scale: 2 shift: -3 } }',
        "NetParameter",
    )
    made = lf.Net(definition, lf.TRAIN, dtype=np.float64)
    x = made.blobs["x"].data[...] = np.linspace(-4, 4, 9)
    made.forward()
    made.blobs["y"].diff[...] = 1
    made.backward()
    assert_close(made.blobs["x"].diff, 2 / (1 + np.exp(-x)), 1e-12)


def test_its_gradient_is_exact_far_below_0():
    bench = Bench('type: "BNLL"', [(3,)], dtype=np.float32)
    bench.forward([[-20, -40, -80]], {})
    assert_close(bench.backward([[1, 1, 1]])[0][0] / np.exp([-20, -40, -80]), np.ones(3), 1e-5)
