"""Biases and rectifiers of fully connected layers, on the CPU and by the emulated device's threads and teams."""

import numpy as np
import pytest

from layerforge import device
from layerforge.kernels import Kernels

K = Kernels("inner_product.h")
emulated = device.get("emulated")


def rectify(values, slope):
    return np.where(values > 0, values, slope * values)


def there(values):
    array = emulated.empty(values.shape, values.dtype)
    emulated.from_numpy(array, values)
    return array


@pytest.mark.parametrize("where", ["cpu", "emulated"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [0, 0.25])
@pytest.mark.parametrize("rows, columns", [(1, 1), (5, 7), (70, 3), (0, 4), (40, 130)])
def test_formulas(where, dtype, slope, rows, columns):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, rows, columns)).astype(dtype)
    b, before = rng.standard_normal((2, columns)).astype(dtype)
    y = rectify(x + b, dtype(slope))
    dx = dy * np.where(y > 0, dtype(1), dtype(slope))
    move, back = (np.copy, np.asarray) if where == "cpu" else (there, emulated.to_numpy)
    found = move(x)
    K.shift_and_rectify(move(b), found, columns, slope)
    np.testing.assert_array_equal(back(found), y)
    for add in (False, True):
        gradient, sums = move(dy), move(before if add else np.full_like(before, np.nan))
        K.rectified_bias(move(y), gradient, sums, rows, columns, slope, add, count=columns)
        np.testing.assert_array_equal(back(gradient), dx)
        np.testing.assert_allclose(back(sums), dx.sum(0) + add * before, rtol=1e-4, atol=1e-4)


def test_no_number_stays_none():
    y = np.array([[np.nan, -1]], np.float32)
    K.shift_and_rectify(np.zeros(2, np.float32), y, 2, 0)
    assert np.isnan(y[0, 0]) and y[0, 1] == 0
