"""The CPU's rows and lines compute what the portable kernels do, element by element, to the bit."""

import numpy as np
import pytest

from layerforge.kernels import Kernels

K = Kernels("broadcast.h")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "outer, size, inner", [(2, 3, 37), (5, 40, 1), (4, 1, 9), (1, 7, 1), (3, 0, 4), (3, 2, 0), (0, 3, 1)]
)
def test_tuned_equals_portable(dtype, outer, size, inner):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, outer, size, inner)).astype(dtype)
    w, b = rng.standard_normal((2, size)).astype(dtype)
    rows = rng.standard_normal(outer * size).astype(dtype)
    calls = {
        "scale_and_shift": [
            (x, w, b, ..., size, inner, 1),
            (x, w, None, ..., size, inner, 1),
            (x, None, b, ..., size, inner, 1),
        ],
        "shift": [(x, b, ..., size, inner)],
        "prelu_forward": [(x, w, ..., size, inner)],
        "prelu_backward": [(x, w, dy, ..., size, inner)],
        "spread_rows": [(rows, ..., inner, 1.5)],
        "spread_signs": [(x, rows, ..., inner, 1.5)],
        "spread_products": [(x, rows, ..., inner, 1.5)],
    }
    assert sorted([*calls, "sum_columns", "lane_sums"]) == sorted(K.tuned())
    for name, variants in calls.items():
        for arguments in variants:
            results = []
            for kernels in (K, K.portable):
                y = np.full_like(x, np.nan)
                getattr(kernels, name)(*[y if a is ... else a for a in arguments])
                results.append(y)
            assert np.array_equal(*results), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outer, size", [(1, 1), (7, 64), (8, 65), (100, 130), (9, 7), (0, 5), (5, 0)])
@pytest.mark.parametrize("add", [False, True])
def test_columns(dtype, outer, size, add):
    rows = np.random.default_rng(0).standard_normal((outer, size)).astype(dtype)
    results = []
    for kernels in (K, K.portable):
        y = np.full(size, 3, dtype)
        kernels.sum_columns(rows, y, outer, size, add)
        results.append(y)
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], rows.sum(0) + 3 * add, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape, block", [((3, 2, 37), 8), ((2, 3, 9), 16), ((1, 1, 200), 16), ((5, 4, 70), 1), ((3, 1, 25), 72)]
)
def test_blocks(dtype, shape, block):
    """(items, groups, positions) of so many channels side by side."""
    outer, groups, inner = shape
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, outer, groups, inner, block)).astype(dtype)
    w, b = rng.standard_normal((2, groups, block)).astype(dtype)
    size = groups * block
    for weight, bias in ((w, b), (w, None), (None, b)):
        expected = x * (1 if weight is None else w[:, None]) + (0 if bias is None else b[:, None])
        for kernels in (K, K.portable):
            y = np.full_like(x, np.nan)
            kernels.scale_and_shift(x, weight, bias, y, size, inner, block)
            np.testing.assert_array_equal(y, expected)
    for other, expected in ((None, x.sum(2)), (dy, (x * dy).sum(2))):
        for kernels in (K, K.portable):
            sums = np.full((outer, groups, block), np.nan, dtype)
            kernels.lane_sums(x, other, sums, inner, block)
            np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-5)
