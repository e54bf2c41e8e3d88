import numpy as np
import pytest

from layerforge.testing import Bench, check_layer

OPERATIONS = {
    "SUM": np.sum,
    "MEAN": np.mean,
    "ASUM": lambda x, axis: np.sum(np.abs(x), axis),
    "SUMSQ": lambda x, axis: np.sum(x**2, axis),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "options, shape, first, coeff",
    [
        ("", (2, 3, 4), 0, 1),
        ("axis: 1", (2, 3, 4, 5), 1, 1),
        ("axis: 2 coeff: 0.5", (2, 3, 4, 5), 2, 0.5),
        ("axis: -1 coeff: -2", (6, 37), 1, -2),
        ("coeff: 0", (5,), 0, 0),
    ],
)
def test_reduction(operation, options, shape, first, coeff):
    def expected(x):
        return coeff * OPERATIONS[operation](x, tuple(range(first, x.ndim)))

    check_layer(f'type: "Reduction" reduction_param {{ operation: {operation} {options} }}', [shape], expected)


def test_the_derivative_of_the_absolute_value_at_0_is_0():
    bench = Bench('type: "Reduction" reduction_param { operation: ASUM }', [(3,)])
    assert bench.forward([[-2, 0, 3]], {})[0] == 5
    assert bench.backward([2])[0][0].tolist() == [-2, 0, 2]
