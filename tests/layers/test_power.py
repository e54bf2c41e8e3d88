import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", lambda x: x),
        ("scale: -3 shift: 2", lambda x: 2 - 3 * x),
        ("power: 2", lambda x: x**2),
        ("power: 2 scale: 0.5 shift: -1", lambda x: (0.5 * x - 1) ** 2),
        ("power: 3 scale: 0.5 shift: -0.25", lambda x: (0.5 * x - 0.25) ** 3),
        ("power: 0.5 scale: 2 shift: 0.125", lambda x: np.sqrt(2 * x + 0.125)),
        ("power: -1.5 shift: 0.25", lambda x: (x + 0.25) ** -1.5),
        ("power: 0 scale: 2", lambda x: np.power(x, 0)),
        ("power: 3 scale: 0 shift: 2", lambda x: (2 + 0 * x) ** 3),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_power(options, expected, shape):
    check_layer(f'type: "Power" power_param {{ {options} }}', [shape], expected, in_place=True, bottoms=[(0.2, 2)])


def test_negative_numbers():
    bench = Bench('type: "Power" power_param { power: 3 }', [(2,)])
    assert bench.forward([[-2, 0]], {})[0].tolist() == [-8, 0]
    assert bench.backward([[1, 1]])[0][0].tolist() == [12, 0]
    assert np.isnan(Bench('type: "Power" power_param { power: 0.5 }', [()]).forward([-1], {})[0])


@pytest.mark.parametrize("options", ["power: 0", "power: -1 scale: 0 shift: 1"])
def test_a_constant_has_gradient_0_even_at_0(options):
    bench = Bench(f'type: "Power" power_param {{ {options} }}', [(2,)])
    assert bench.forward([[0, 5]], {})[0].tolist() == [1, 1]
    assert bench.backward([[3, 3]])[0][0].tolist() == [0, 0]
