"""Pooling kernels: portable and hand-tuned, against windows cut out by hand."""

import numpy as np
import pytest

from layerforge import _csrc
from layerforge.kernels import Kernels

K = Kernels("pooling.h")


@pytest.fixture(params=[(1, True), (5, True), (1, False)], autouse=True)
def threads(request, set_threads):
    """With one thread and with several, which begin amid planes; without what is written for AVX-512."""
    set_threads(request.param[0])
    _csrc.allow_avx512(request.param[1])
    yield
    _csrc.allow_avx512(True)


def windows(size, kernel, stride, pad):
    """As Caffe counts them: rounded up, without those that begin behind the image and its padding."""
    count = -(-(size + 2 * pad - kernel) // stride) + 1
    while (count - 1) * stride >= size + pad:
        count -= 1
    return count


def numbers(size, kernel, stride, pad):
    output = tuple(windows(*axis) for axis in zip(size, kernel, stride, pad, strict=True))
    return (*size, *kernel, *stride, *pad, *output), output


CASES = {
    # sizes, kernels, strides, pads of D, H, W
    "AlexNet's": ((1, 13, 13), (1, 3, 3), (1, 2, 2), (0, 0, 0)),
    "LeNet's": ((1, 24, 24), (1, 2, 2), (1, 2, 2), (0, 0, 0)),
    "GoogLeNet's": ((1, 14, 15), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "LeNet's second": ((1, 8, 8), (1, 2, 2), (1, 2, 2), (0, 0, 0)),
    "small and padded": ((1, 7, 7), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "small, padded and strided": ((1, 5, 9), (1, 3, 5), (1, 2, 3), (0, 1, 2)),
    "wide rows": ((1, 5, 71), (1, 3, 3), (1, 2, 2), (0, 0, 0)),
    "wide rows, overlapping": ((1, 4, 39), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "wide rows, side by side": ((1, 6, 70), (1, 2, 2), (1, 2, 2), (0, 0, 0)),
    "wide rows, padded, stride 2": ((1, 5, 67), (1, 5, 5), (1, 2, 2), (0, 2, 2)),
    "wide rows, stride 3": ((1, 7, 59), (1, 5, 5), (1, 3, 3), (0, 1, 1)),
    "the last window clipped": ((1, 8, 10), (1, 3, 3), (1, 2, 2), (0, 0, 0)),
    "padded, stride 3": ((1, 11, 12), (1, 4, 5), (1, 3, 3), (0, 2, 2)),
    "different axes": ((1, 9, 14), (1, 2, 4), (1, 1, 3), (0, 1, 0)),
    "gaps between windows": ((1, 12, 12), (1, 2, 2), (1, 3, 3), (0, 0, 0)),
    "a large kernel": ((1, 12, 15), (1, 9, 11), (1, 2, 2), (0, 3, 3)),
    "the whole plane": ((1, 7, 7), (1, 7, 7), (1, 1, 1), (0, 0, 0)),
    "one position": ((1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    "a kernel larger than the plane": ((1, 2, 2), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "planes of a volume": ((3, 6, 7), (1, 3, 3), (1, 2, 2), (0, 0, 0)),
    "blocks of 16 channels": ((7, 9, 16), (3, 3, 1), (2, 2, 1), (0, 0, 0)),
    "blocks of 8 channels": ((6, 5, 8), (3, 3, 1), (1, 1, 1), (1, 1, 0)),
    "blocks, the whole plane": ((4, 5, 16), (4, 5, 1), (1, 1, 1), (0, 0, 0)),
    "all channels of a position": ((7, 9, 48), (3, 3, 1), (2, 2, 1), (1, 0, 0)),
    "all of 24 channels": ((6, 5, 24), (2, 3, 1), (2, 1, 1), (0, 1, 0)),
    "all channels, gaps between windows": ((9, 8, 32), (2, 1, 1), (4, 3, 1), (1, 0, 0)),
    "all channels, the whole plane": ((4, 5, 80), (4, 5, 1), (1, 1, 1), (0, 0, 0)),
    "all channels, a window outside": ((2, 2, 32), (3, 3, 1), (4, 4, 1), (2, 2, 0)),
    "a volume": ((5, 6, 7), (3, 2, 3), (2, 2, 1), (1, 0, 1)),
}
PLANES = (2, 3)


def spans(case):
    """For each output position: its flat index, the slices of its window in the image, its size with padding."""
    size, kernel, stride, pad = case
    _, output = numbers(*case)
    for at, o in enumerate(np.ndindex(*output)):
        begins = [i * s - p for i, s, p in zip(o, stride, pad, strict=True)]
        ends = [min(b + k, n + p) for b, k, n, p in zip(begins, kernel, size, pad, strict=True)]
        cut = tuple(slice(max(b, 0), min(e, n)) for b, e, n in zip(begins, ends, size, strict=True))
        yield at, cut, np.prod([e - b for b, e in zip(begins, ends, strict=True)])


def both(name):
    return pytest.mark.parametrize("kernel", [getattr(K, name), getattr(K.portable, name)], ids=["tuned", "portable"])


def draw(case, dtype, ties=False):
    random = np.random.default_rng(1)
    shape = (*PLANES, *case[0])
    return (random.integers(0, 3, shape) if ties else random.standard_normal(shape)).astype(dtype)


@both("max_forward")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_max_forward(kernel, dtype, ties, name):
    case = CASES[name]
    arguments, output = numbers(*case)
    x = draw(case, dtype, ties)
    y, mask = np.full((*PLANES, *output), np.nan, dtype), np.full((*PLANES, *output), -7, np.int32)
    kernel(x, y, mask, *arguments)
    index = np.arange(np.prod(case[0])).reshape(case[0])
    for at, cut, _ in spans(case):
        part = x[(..., *cut)].reshape(*PLANES, -1)
        first = part.argmax(-1)
        np.testing.assert_array_equal(y.reshape(*PLANES, -1)[..., at], part.max(-1))
        np.testing.assert_array_equal(mask.reshape(*PLANES, -1)[..., at], index[cut].ravel()[first])
    alone = np.empty_like(y)
    kernel(x, alone, None, *arguments)
    np.testing.assert_array_equal(alone, y)


@both("max_forward")
@pytest.mark.parametrize(
    "name",
    [
        "AlexNet's",
        "GoogLeNet's",
        "small and padded",
        "padded, stride 3",
        "a large kernel",
        "a volume",
        "blocks of 16 channels",
        "all channels of a position",
    ],
)
def test_max_of_what_is_not_finite(kernel, name):
    """A NaN wins, the first one of several; where all is -inf, that is the maximum, and the mask is inside."""
    case = CASES[name]
    arguments, output = numbers(*case)
    x = draw(case, np.float32)
    x[0, 0] = -np.inf
    random = np.random.default_rng(2)
    x[1][random.random(x[1].shape) < 0.1] = np.nan
    y, mask = np.empty((*PLANES, *output), np.float32), np.empty((*PLANES, *output), np.int32)
    kernel(x, y, mask, *arguments)
    index = np.arange(np.prod(case[0])).reshape(case[0])
    for at, cut, _ in spans(case):
        part = x[(..., *cut)].reshape(*PLANES, -1)
        found = np.where(
            np.isnan(part).any(-1), np.isnan(part).argmax(-1), np.nan_to_num(part, neginf=-np.inf).argmax(-1)
        )
        np.testing.assert_array_equal(mask.reshape(*PLANES, -1)[..., at], index[cut].ravel()[found])
        np.testing.assert_array_equal(y.reshape(*PLANES, -1)[..., at], part.max(-1))
    alone = np.empty_like(y)
    kernel(x, alone, None, *arguments)
    np.testing.assert_array_equal(alone, y)


@both("max_backward")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_max_backward(kernel, dtype, name):
    case = CASES[name]
    arguments, output = numbers(*case)
    x = draw(case, dtype)
    y, mask = np.empty((*PLANES, *output), dtype), np.empty((*PLANES, *output), np.int32)
    K.portable.max_forward(x, y, mask, *arguments)
    dy = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    dx = np.full(x.shape, np.nan, dtype)
    kernel(dy, mask, dx, *arguments)
    expected = np.zeros((np.prod(PLANES), x[0, 0].size), dtype)
    for plane, row in enumerate(expected):
        np.add.at(row, mask.reshape(len(expected), -1)[plane], dy.reshape(len(expected), -1)[plane])
    np.testing.assert_array_equal(dx, expected.reshape(x.shape))


@both("average_forward")
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_average_forward(kernel, dtype, tolerance, count_padding, name):
    case = CASES[name]
    arguments, output = numbers(*case)
    x = draw(case, dtype)
    y = np.full((*PLANES, *output), np.nan, dtype)
    kernel(x, y, count_padding, *arguments)
    for at, cut, padded in spans(case):
        part = x[(..., *cut)].reshape(*PLANES, -1).astype(np.float64)
        expected = part.sum(-1) / (padded if count_padding else part.shape[-1])
        np.testing.assert_allclose(y.reshape(*PLANES, -1)[..., at], expected, rtol=0, atol=tolerance)


@both("average_backward")
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_average_backward(kernel, dtype, tolerance, count_padding, name):
    case = CASES[name]
    arguments, output = numbers(*case)
    dy = np.random.default_rng(2).standard_normal((*PLANES, *output)).astype(dtype)
    dx = np.full((*PLANES, *case[0]), np.nan, dtype)
    kernel(dy, dx, count_padding, *arguments)
    expected = np.zeros(dx.shape)
    for at, cut, padded in spans(case):
        part = expected[(..., *cut)]
        size = padded if count_padding else part[0, 0].size
        part += (dy.reshape(*PLANES, -1)[..., at] / size).reshape(*PLANES, 1, 1, 1)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("portable", [False, True])
def test_windows_outside_the_image(portable):
    """Caffe's layers drop them; a kernel that meets one writes 0 and -1 and reads nothing."""
    arguments = (1, 2, 2, 1, 1, 1, 1, 3, 3, 0, 2, 2, 1, 2, 2)
    x, y, mask = np.ones((1, 1, 2, 2), np.float32), np.empty((1, 1, 2, 2), np.float32), np.empty((1, 1, 2, 2), np.int32)
    functions = K.portable if portable else K
    functions.max_forward(x, y, mask, *arguments)
    np.testing.assert_array_equal(y.ravel(), [0, 0, 0, 1])
    np.testing.assert_array_equal(mask.ravel(), [-1, -1, -1, 3])
    dx = np.empty_like(x)
    functions.max_backward(y, mask, dx, *arguments)
    np.testing.assert_array_equal(dx.ravel(), [0, 0, 0, 1])
    for count_padding in (False, True):
        functions.average_forward(x, y, count_padding, *arguments)
        np.testing.assert_array_equal(y.ravel(), [0, 0, 0, 1])


def test_an_empty_batch():
    empty, mask = np.empty((0, 3, 2, 2), np.float32), np.empty((0, 3, 2, 2), np.int32)
    arguments = (1, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 2, 2)
    K.max_forward(empty, empty, mask, *arguments)
    K.max_backward(empty, mask, empty, *arguments)
    K.average_forward(empty, empty, True, *arguments)
    K.average_backward(empty, empty, True, *arguments)


def test_stochastic():
    """Each x of a window is drawn in proportion to it; its mean is what the test phase computes."""
    draws = 40_000
    window = np.array([1, 0, 3, 4], np.float32)
    x = np.tile(window, draws)
    y, mask = np.empty(draws, np.float32), np.empty(draws, np.int32)
    arguments = (1, 2, 2, 1, 2, 2, 1, 2, 2, 0, 0, 0, 1, 1, 1)
    K.stochastic_forward(x, y, mask, 1, 2, 3, *arguments)
    np.testing.assert_array_equal(y, window[mask])
    share = np.bincount(mask, minlength=4) / draws
    probability = window / window.sum()
    assert (abs(share - probability) <= 5 * np.sqrt(probability * (1 - probability) / draws)).all()

    mean = np.empty(draws, np.float32)
    K.stochastic_mean(x, mean, *arguments)
    np.testing.assert_allclose(mean, (window**2).sum() / window.sum())
    K.stochastic_mean(np.zeros_like(x), mean, *arguments)
    assert not mean.any()
