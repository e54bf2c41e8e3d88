"""Local response normalisation: portable and hand-tuned, against the formula in float64."""

import numpy as np
import pytest

from layerforge import _csrc
from layerforge.kernels import Kernels

K = Kernels("lrn.h")


@pytest.fixture(params=[(1, True), (3, True), (1, False)], autouse=True)
def threads(request, set_threads):
    """With one thread and with several; without what is written for AVX-512."""
    set_threads(request.param[0])
    _csrc.allow_avx512(request.param[1])
    yield
    _csrc.allow_avx512(True)


def formula(x, dy, size, alpha, beta, k):
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    channels = x.shape[1]
    near = np.array(
        [[-((size - 1) // 2) <= b - a <= size // 2 for b in range(channels)] for a in range(channels)], float
    )
    s = k + alpha / size * np.einsum("ab,nbp->nap", near, x**2)
    power = s**-beta
    return x * power, dy * power - 2 * alpha * beta / size * x * np.einsum("ba,nbp->nap", near, dy * x * power / s)


CASES = [
    # shape, size, alpha, beta, k
    ((2, 7, 20), 5, 1e-4, 0.75, 1),
    ((2, 7, 20), 5, 1.0, 0.75, 2),
    ((1, 96, 3025), 5, 1e-4, 0.75, 1),
    ((3, 12, 3100), 3, 1.0, 0.75, 1),
    ((2, 3, 40), 7, 1.0, 0.75, 1),
    ((1, 12, 18), 15, 1.0, 0.75, 1),
    ((2, 6, 17), 1, 0.5, 0.75, 1),
    ((2, 6, 17), 4, 0.5, 0.75, 1),
    ((2, 7, 20), 5, 1.0, 0.5, 1),
    ((2, 7, 20), 5, 1.0, 1.0, 1),
    ((2, 7, 20), 5, 1.0, 0.6, 3),
    ((0, 7, 20), 5, 1.0, 0.75, 1),
]


@pytest.mark.parametrize("functions", [K, K.portable], ids=["tuned", "portable"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 5e-7), (np.float64, 1e-14)])
@pytest.mark.parametrize("shape, size, alpha, beta, k", CASES)
def test_lrn(functions, dtype, tolerance, shape, size, alpha, beta, k):
    random = np.random.default_rng(1)
    scale = 30 if alpha < 1e-3 else 1
    x, dy = (scale * random.standard_normal(shape)).astype(dtype), random.standard_normal(shape).astype(dtype)
    y, dx = np.full(shape, np.nan, dtype), np.full(shape, np.nan, dtype)
    arguments = (shape[1], shape[2], 1, size, alpha, beta, k)
    functions.lrn_forward(x, y, *arguments)
    functions.lrn_backward(x, dy, dx, *arguments, 1)
    expected_y, expected_dx = formula(x, dy, size, alpha, beta, k)
    np.testing.assert_allclose(y, expected_y, rtol=tolerance, atol=0)
    atol = tolerance * 4 * max(1, abs(expected_dx).max(initial=0))
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=atol)
    functions.lrn_backward(x, dy, dx, *arguments, 0.25)
    np.testing.assert_allclose(dx, np.where(x > 0, 1, 0.25) * expected_dx, rtol=0, atol=atol)


BLOCKED = [
    # shape, block, size, beta
    ((2, 16, 20), 16, 5, 0.75),
    ((2, 48, 70), 16, 5, 0.75),
    ((1, 48, 33), 16, 7, 0.75),
    ((2, 32, 17), 16, 31, 0.75),
    ((2, 64, 17), 16, 33, 0.75),
    ((2, 32, 20), 16, 4, 0.75),
    ((2, 32, 20), 16, 1, 0.75),
    ((2, 32, 20), 16, 5, 0.6),
    ((2, 24, 300), 8, 5, 0.75),
    ((2, 96, 70), 96, 5, 0.75),
    ((1, 48, 33), 48, 7, 0.75),
    ((2, 64, 17), 64, 33, 0.75),
    ((2, 40, 20), 40, 5, 0.75),
    ((2, 32, 20), 32, 5, 0.6),
    ((1, 12, 20), 2, 3, 1.0),
    ((0, 32, 20), 16, 5, 0.75),
]


@pytest.mark.parametrize("functions", [K, K.portable], ids=["tuned", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, block, size, beta", BLOCKED)
def test_the_same_bits_in_blocks(functions, dtype, shape, block, size, beta):
    def blocked(array):
        return array.reshape(shape[0], shape[1] // block, block, shape[2]).swapaxes(2, 3).copy()

    random = np.random.default_rng(1)
    x, dy = (random.standard_normal(shape).astype(dtype) for _ in range(2))
    plain, lies = np.empty((2, *shape), dtype), np.full((2, x.size), np.nan, dtype)
    for results, arrays, by in ((plain, (x, dy), 1), (lies, (blocked(x), blocked(dy)), block)):
        arguments = (*shape[1:], by, size, 0.5, beta, 2)
        functions.lrn_forward(arrays[0], results[0], *arguments)
        functions.lrn_backward(*arrays, results[1], *arguments, 0.25)
    for a, b in zip(plain, lies, strict=True):
        np.testing.assert_array_equal(b, blocked(a).ravel())


def test_the_quick_power_holds_over_the_whole_range():
    """s^-0.75 by steps of Newton's kind is within 2e-7 for every s that a float holds."""
    x = np.float32(10.0) ** np.linspace(-18, 19, 100_001, dtype=np.float32)
    y = np.empty_like(x)
    K.lrn_forward(x, y, 1, x.size, 1, 1, 1, 0.75, 0)  # s = x^2, so y = x^-0.5
    np.testing.assert_allclose(y, x.astype(np.float64) ** -0.5, rtol=2.5e-7)


@pytest.mark.parametrize("functions", [K, K.portable], ids=["tuned", "portable"])
def test_what_is_not_finite(functions):
    x = np.ones((1, 9, 20), np.float32)
    x[0, 4, 3] = np.nan
    y, dx = np.empty_like(x), np.empty_like(x)
    functions.lrn_forward(x, y, 9, 20, 1, 5, 1, 0.75, 1)
    functions.lrn_backward(x, x, dx, 9, 20, 1, 5, 1, 0.75, 1, 1)
    expected = np.zeros(x.shape, bool)
    expected[0, 2:7, 3] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    expected[0, :, 3] = True
    np.testing.assert_array_equal(np.isnan(dx), expected)
    x[:] = 1e25  # its square is inf, and inf^-0.75 is 0
    functions.lrn_forward(x, y, 9, 20, 1, 5, 1, 0.75, 1)
    assert not y.any()
