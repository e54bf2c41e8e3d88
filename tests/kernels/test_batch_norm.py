"""The CPU's strips compute what the portable kernels do: to the bit where nothing is summed, plain and in blocks."""

import numpy as np
import pytest

from layerforge import device
from layerforge.kernels import Kernels
from layerforge.testing import assert_close

K = Kernels("batch_norm.h")

# items, channels, positions, block
SHAPES = [
    (2, 3, 37, 1),
    (5, 40, 1, 1),
    (1, 7, 1, 1),
    (3, 2, 1000, 1),
    (2, 32, 49, 16),
    (3, 16, 9, 8),
    (1, 16, 1000, 16),
    (2, 64, 30, 64),
    (3, 80, 50, 80),
    (1, 200, 9, 200),
]
EMPTY = [(3, 0, 4, 1), (0, 3, 1, 1), (0, 32, 4, 16)]


def both(name, output, arguments, **options):
    """What the tuned kernel writes, and what the portable one does."""
    results = []
    for kernels in (K, K.portable):
        arrays = [np.full_like(array, np.nan) for array in output]
        getattr(kernels, name)(*arguments(*arrays), **options)
        results.append(arrays)
    return zip(*results, strict=True)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 4e-15)])
@pytest.mark.parametrize("items, channels, positions, block", SHAPES + EMPTY)
@pytest.mark.parametrize("slope", [0, 0.1, 1])
def test_tuned_equals_portable(dtype, tolerance, items, channels, positions, block, slope):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, items * channels * positions)).astype(dtype)
    mean, scale, w, b, total, dot = rng.standard_normal((6, channels)).astype(dtype)
    of = (channels, positions, block)
    share = (*of, 0, channels)
    lanes = np.empty(items * channels, dtype)
    tolerance *= max(1, positions**0.5)
    for weight, bias in ((None, None), (w, None), (w, b)):
        given = (x, mean, scale, weight, bias)
        exact = [
            ("batch_norm_forward", [x], lambda y, given=given: (*given, y, None, slope, *share)),
            ("batch_norm_forward", [x, x], lambda y, kept, given=given: (*given, y, kept, slope, *share)),
            ("normalised_sum", [x], lambda y, given=given: (*given, dy, *[None] * 4, y, slope, *of)),
            ("normalised_sum", [x], lambda y, given=given: (dy, *[None] * 4, *given, y, slope, *of)),
            ("normalised_sum", [x], lambda y, given=given: (*given, dy, *given[1:], y, slope, *of)),
            ("batch_norm_backward", [x], lambda dx, given=given: (*given, dy, total, dot, dx, None, slope, 12, *share)),
            (
                "batch_norm_backward",
                [x, x],
                lambda dx, dt, given=given: (*given, dy, total, dot, dx, dt, slope, 12, *share),
            ),
            ("batch_norm_backward", [x], lambda dx, given=given: (*given, dy, None, None, dx, None, slope, 12, *share)),
        ]
        for name, outputs, arguments in exact:
            for tuned, portable in both(name, outputs, arguments, count=items * channels):
                np.testing.assert_array_equal(tuned, portable, name)
        products = lambda s, d, given=given: (*given, dy, s, d, slope, *share)  # noqa: E731
        for tuned, portable in both("lane_products", [lanes, lanes], products):
            assert_close(tuned, portable, tolerance)
    for tuned, portable in both("lane_moments", [lanes, lanes], lambda m, q: (x, m, q, *share)):
        assert_close(tuned, portable, tolerance)


@pytest.mark.parametrize("kernels", [K, K.portable])
@pytest.mark.parametrize("items, channels, positions, block", [shape for shape in SHAPES if shape[1] > shape[3]])
def test_shares_of_channels_are_parts_of_all(kernels, items, channels, positions, block):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, items * channels * positions)).astype(np.float32)
    each = rng.standard_normal((6, channels)).astype(np.float32)

    def compute(begin, end, y, kept, dx, between):
        mean, scale, w, b, total, dot = each[:, begin:end]
        given, share = (x, mean, scale, w, b), (end - begin, positions, block, begin, channels)
        rows = items * (end - begin)
        moments, products = np.empty((2, 2, rows), np.float32)
        kernels.lane_moments(x, *moments, *share, count=rows)
        kernels.lane_products(*given, dy, *products, 0.1, *share, count=rows)
        kernels.batch_norm_forward(*given, y, kept, 0.1, *share, count=rows)
        kernels.batch_norm_backward(*given, dy, total, dot, dx, between, 0.1, 12, *share, count=rows)
        return np.concatenate([moments, products]).reshape(4, items, end - begin)

    whole, parts = np.full((2, 4, x.size), np.nan, np.float32)
    lanes = compute(0, channels, *whole)
    middle = channels // block // 2 * block
    found = [compute(begin, end, *parts) for begin, end in ((0, middle), (middle, channels)) if end > begin]
    np.testing.assert_array_equal(np.concatenate(found, 2), lanes)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("slope", [0.1, 1])
def test_what_no_cache_holds(slope):
    items, channels, positions, block = 4, 32, 1 << 15, 16  # 16 MiB: past the caches with AVX-512
    rng = np.random.default_rng(0)
    x = device.cpu.zeros(items * channels * positions)
    x[...] = rng.standard_normal(x.size)
    given = (x, *rng.standard_normal((4, channels)).astype(np.float32))
    portable = np.empty_like(x)
    share = (channels, positions, block, 0, channels)
    dy, (total, dot) = x[::-1].copy(), rng.standard_normal((2, channels)).astype(np.float32)
    for sums in ((total, dot), (None, None)):
        tuned = device.cpu.zeros(x.size)
        for kernels, dx in ((K.portable, portable), (K, tuned)):
            kernels.batch_norm_backward(*given, dy, *sums, dx, None, slope, 12, *share, count=items * channels)
        np.testing.assert_array_equal(tuned, portable)
    K.portable.batch_norm_forward(*given, portable, None, slope, *share, count=items * channels)
    for kept in (None, device.cpu.zeros(x.size)):
        tuned = device.cpu.zeros(x.size)
        K.batch_norm_forward(*given, tuned, kept, slope, *share, count=items * channels)
        np.testing.assert_array_equal(tuned, portable)
        assert kept is None or (kept == x).all()


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 4e-15)])
@pytest.mark.parametrize("items, channels", [(1, 1), (3, 2), (9, 200), (200, 9)])
def test_what_joins_the_lanes_of_a_channel(dtype, tolerance, items, channels):
    """Alike in both, and their moments are those of all elements."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((items, channels, 7)) + 3
    lanes, first, scale = x.mean(2).astype(dtype), x[..., 0].astype(dtype), x[0, :, 1].astype(dtype)
    squares = (x.var(2) * 7).astype(dtype)
    each, one = np.ones(channels, dtype), np.ones(1, dtype)
    for square, values, inner in ((squares, x, 7), (None, first[..., None], 1)):
        given = lanes if square is not None else first
        found = []
        for kernels in (K, K.portable):
            (mean, by), factor = np.empty((2, channels), dtype), one.copy()
            running_mean, running_variance = each.copy(), each.copy()
            of = (items, channels, inner, 0.5, 0.25)
            kernels.batch_statistics(given, square, mean, by, running_mean, running_variance, factor, *of)
            again, by_again = np.empty((2, channels), dtype)
            kernels.batch_statistics(given, square, again, by_again, None, None, None, *of)
            np.testing.assert_array_equal([again, by_again], [mean, by])
            found.append(np.stack([mean, by, running_mean, running_variance]))
            assert factor == 1.25
        assert_close(*found, tolerance * max(1, items**0.5))
        variance, number = values.var((0, 2)), items * inner
        whole = variance * number / max(number - 1, 1)
        expected = [values.mean((0, 2)), (variance + 0.5) ** -0.5, values.mean((0, 2)) + 0.25, whole + 0.25]
        np.testing.assert_allclose(found[0], expected, rtol=tolerance * 100)
    found = []
    for kernels in (K, K.portable):
        total, dot, dw, db = np.ones((4, channels), dtype)
        kernels.batch_products(lanes, first, scale, total, dot, dw, None, items, channels)
        kernels.batch_products(lanes, first, scale, total, dot, None, db, items, channels)
        found.append([total, dot, dw, db])
    np.testing.assert_array_equal(*found)
    total, dot = lanes.sum(0, np.float64), first.sum(0, np.float64)
    np.testing.assert_allclose(found[0], [total, dot, 1 + scale * dot, 1 + total], rtol=tolerance * 100)


def test_everything_tuned_is_tested():
    assert sorted(K.tuned()) == [
        "batch_norm_backward", "batch_norm_forward", "batch_products", "batch_statistics", "lane_moments",
        "lane_products", "normalised_sum",
    ]  # fmt: skip
