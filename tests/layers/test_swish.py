import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("options, beta", [("", 1), ("swish_param { beta: 0.5 }", 0.5), ("swish_param { beta: 0 }", 0)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_swish(options, beta, shape):
    check_layer(f'type: "Swish" {options}', [shape], lambda x: x / (1 + np.exp(-beta * x)), in_place=True)


def test_it_does_not_overflow():
    bench = Bench('type: "Swish"', [(2,)], dtype=np.float32)
    assert bench.forward([[-1e4, 1e4]], {})[0].tolist() == [0, 1e4]
    assert bench.backward([[1, 1]])[0][0].tolist() == [0, 1]
