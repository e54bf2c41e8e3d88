import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_bnll(shape):
    check_layer('type: "BNLL"', [shape], lambda x: np.log(1 + np.exp(x)), in_place=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_does_not_overflow(dtype):
    bench = Bench('type: "BNLL"', [(4,)], dtype=dtype)
    assert bench.forward([[-np.inf, -1e4, 1e4, np.inf]], {})[0].tolist() == [0, 0, 1e4, np.inf]
    assert bench.backward([[1, 1, 1, 1]])[0][0].tolist() == [0, 0, 1, 1]
