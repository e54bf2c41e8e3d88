import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (3, 1, 2)])
def test_sigmoid(shape):
    check_layer('type: "Sigmoid"', [shape], lambda x: 1 / (1 + np.exp(-x)), in_place=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_does_not_overflow(dtype):
    bench = Bench('type: "Sigmoid"', [(4,)], dtype=dtype)
    (y,) = bench.forward([[-np.inf, -1e4, 1e4, np.inf]], {})
    assert y.tolist() == [0, 0, 1, 1]
    (dx,), _ = bench.backward([[1, 1, 1, 1]])
    assert dx.tolist() == [0, 0, 0, 0]
