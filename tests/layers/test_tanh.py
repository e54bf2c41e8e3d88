import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (3, 1, 2)])
def test_tanh(shape):
    check_layer('type: "TanH"', [shape], np.tanh, in_place=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_does_not_overflow(dtype):
    bench = Bench('type: "TanH"', [(4,)], dtype=dtype)
    (y,) = bench.forward([[-np.inf, -1e4, 1e4, np.inf]], {})
    assert y.tolist() == [-1, -1, 1, 1]
