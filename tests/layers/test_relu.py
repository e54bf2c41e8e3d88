import numpy as np
import pytest

from layerforge.testing import check_layer


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", lambda x: np.maximum(x, 0)),
        ("relu_param { negative_slope: 0.1 }", lambda x: np.where(x > 0, x, 0.1 * x)),
        ("relu_param { engine: CUDNN }", lambda x: np.maximum(x, 0)),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (3, 1, 2)])
def test_relu(options, expected, shape):
    check_layer(f'type: "ReLU" {options}', [shape], expected, in_place=True)


def test_the_derivative_at_0_is_the_slope():
    from layerforge.testing import Bench

    bench = Bench('type: "ReLU" relu_param { negative_slope: 0.25 }', [(3,)])
    bench.forward([[-1, 0, 1]], {})
    (dx,), _ = bench.backward([[4, 4, 4]])
    assert dx.tolist() == [1, 1, 4]
