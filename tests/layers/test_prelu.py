import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


def prelu(x, slope):
    return np.where(x > 0, x, x * slope.reshape(-1, *[1] * (x.ndim - 2)))


@pytest.mark.parametrize("options", ["", "prelu_param { channel_shared: true }"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 6), (2, 1, 33), (3, 5, 1, 2, 2)])
def test_prelu(options, shape):
    check_layer(f'type: "PReLU" {options}', [shape], prelu, in_place=True)


def test_the_slopes_start_at_a_quarter():
    slope = Bench('type: "PReLU"', [(2, 3)]).layer.params["slope"]
    assert slope.shape == (3,) and slope.filler.value == 0.25
    slope = Bench('type: "PReLU" prelu_param { channel_shared: true filler { value: 0.1 } }', [(2, 3)]).layer.params[
        "slope"
    ]
    assert slope.shape == () and np.isclose(slope.filler.value, 0.1)


def test_no_channels():
    with pytest.raises(ShapeError) as caught:
        Bench('type: "PReLU"', [(3,)])
    assert str(caught.value) == (
        '<text>: layer "prelu" (PReLU): bottom "bottom0" (3,) must have at least 2 axes, the second of them channels'
    )
