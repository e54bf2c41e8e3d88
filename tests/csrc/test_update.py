"""Update rules: portable and hand-tuned, bit for bit alike, and against the formulas in float64."""

import numpy as np
import pytest

from layerforge import kernels
from layerforge.kernels import Kernels

K = Kernels("update.h")
R = Kernels("reduce.h")

pytestmark = pytest.mark.usefixtures("threads")
SIZE = 64 * 70 + 32  # the last block is not whole


def sgd(w, g, h, r, momentum):
    h = momentum * h + r * g
    return w - h, h


def nesterov(w, g, h, r, momentum):
    new = momentum * h + r * g
    return w - ((1 + momentum) * new - momentum * h), new


def adagrad(w, g, h, r, delta):
    h = h + g**2
    return w - r * g / (np.sqrt(h) + delta), h


def rmsprop(w, g, h, r, decay, delta):
    h = decay * h + (1 - decay) * g**2
    return w - r * g / (np.sqrt(h) + delta), h


def adadelta(w, g, h, d, r, momentum, delta):
    h = momentum * h + (1 - momentum) * g**2
    u = g * np.sqrt((d + delta) / (h + delta))
    return w - r * u, h, momentum * d + (1 - momentum) * u**2


def adam(w, g, m, v, r, beta1, beta2, correction, delta):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return w - r * correction * m / (np.sqrt(v) + delta), m, v


@pytest.mark.parametrize("rule, slots, numbers", [
    (sgd, 1, (0.9,)),
    (sgd, 1, (0.0,)),
    (nesterov, 1, (0.9,)),
    (adagrad, 1, (1e-3,)),
    (rmsprop, 1, (0.95, 1e-3)),
    (adadelta, 2, (0.9, 1e-3)),
    (adam, 2, (0.9, 0.999, 0.7, 1e-3)),
])  # fmt: skip
@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-14)])
def test_rules(rule, slots, numbers, l1, dtype, tolerance):
    random = np.random.default_rng(1)
    w, g = random.standard_normal((2, SIZE)).astype(dtype)
    w[::7] = 0  # whose sign is 0
    history = [abs(random.standard_normal(SIZE)).astype(dtype) for _ in range(slots)]
    rates, decays = random.random((2, -(-SIZE // 64))).astype(dtype)
    rate, scale = 0.1, 0.25
    found = []
    for functions in (K, K.portable):
        arrays = [w.copy(), g, *(each.copy() for each in history)]
        getattr(functions, rule.__name__)(*arrays, rates, decays, rate, *numbers, scale, l1)
        found.append([arrays[0], *arrays[2:]])
    for tuned, portable in zip(*found, strict=True):
        np.testing.assert_array_equal(tuned, portable)

    exact = [each.astype(np.float64) for each in (w, g, *history)]
    expand = lambda table: np.repeat(table.astype(np.float64), 64)[:SIZE]  # noqa: E731
    exact[1] = scale * exact[1] + expand(decays) * (np.sign(exact[0]) if l1 else exact[0])
    for actual, expected in zip(found[0], rule(*exact, rate * expand(rates), *numbers), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 100_003])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sum_of_squares(size, dtype):
    x = np.random.default_rng(1).standard_normal(size).astype(dtype)
    partial = np.full(-(-size // 4096), np.nan)
    R.sum_of_squares(x, partial, size)
    np.testing.assert_allclose(partial.sum(), np.dot(x.astype(np.float64), x), rtol=1e-13)


def test_sums_do_not_depend_on_the_number_of_threads():
    x = np.random.default_rng(1).standard_normal(100_003).astype(np.float32)
    seen = set()
    for count in (1, 2, 3, 5):
        kernels.set_threads(count)
        partial = np.empty(25)
        R.sum_of_squares(x, partial, x.size)
        seen.add(partial.tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_array_arithmetic(dtype):
    random = np.random.default_rng(1)
    x, y = random.standard_normal((2, 5000)).astype(dtype)
    expected = y + dtype(0.5) * x
    R.axpy(x, y, 0.5)
    np.testing.assert_array_equal(y, expected)
    R.scale(y, 2)
    np.testing.assert_array_equal(y, 2 * expected)
