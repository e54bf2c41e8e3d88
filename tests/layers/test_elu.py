import numpy as np
import pytest

from layerforge.testing import check_layer


@pytest.mark.parametrize("options, alpha", [("", 1), ("elu_param { alpha: 0.5 }", 0.5), ("elu_param { alpha: 0 }", 0)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_elu(options, alpha, shape):
    check_layer(f'type: "ELU" {options}', [shape], lambda x: np.where(x > 0, x, alpha * np.expm1(x)), in_place=True)


def test_a_negative_alpha():
    check_layer('type: "ELU" elu_param { alpha: -2 }', [(2, 3)], lambda x: np.where(x > 0, x, -2 * np.expm1(x)))
