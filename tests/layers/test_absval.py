import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_absval(shape):
    check_layer('type: "AbsVal"', [shape], np.abs, in_place=True)


def test_the_derivative_at_0_is_0():
    bench = Bench('type: "AbsVal"', [(3,)])
    bench.forward([[-2, 0, 2]], {})
    assert bench.backward([[5, 5, 5]])[0][0].tolist() == [-5, 0, 5]
