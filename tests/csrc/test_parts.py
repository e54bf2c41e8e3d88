"""Parts of a larger array, put and taken: portable and hand-tuned."""

import numpy as np
import pytest

from layerforge.kernels import Kernels

K = Kernels("parts.h")

pytestmark = pytest.mark.usefixtures("threads")


@pytest.mark.parametrize("functions", [K, K.portable], ids=["tuned", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows, width, distance, offset", [
    (1, 1, 1, 0), (3, 4, 9, 2), (5, 1, 2, 1), (2, 40_000, 50_000, 10_000), (200, 333, 333, 0), (0, 3, 5, 1),
    (2, 0, 5, 1),
])  # fmt: skip
def test_parts(functions, dtype, rows, width, distance, offset):
    whole = np.arange(rows * distance, dtype=dtype).reshape(rows, distance)
    part = np.full((rows, width), np.nan, dtype)
    functions.take_part(whole, part, width, distance, offset)
    np.testing.assert_array_equal(part, whole[:, offset : offset + width])
    x = np.arange(part.size, dtype=dtype).reshape(part.shape) % 3 - 1
    functions.take_rectified_part(whole, x, part, 0.5, width, distance, offset)
    np.testing.assert_array_equal(part, np.where(x > 0, 1, 0.5) * whole[:, offset : offset + width])
    found, expected = whole.copy(), whole.copy()
    expected[:, offset : offset + width] = -part
    functions.put_part(-part, found, width, distance, offset, count=part.size)
    np.testing.assert_array_equal(found, expected)
