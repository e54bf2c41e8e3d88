"""The CPU's strips compute what the portable kernels do: to the bit where nothing is summed."""

import numpy as np
import pytest

from layerforge.kernels import Kernels
from layerforge.testing import assert_close

K = Kernels("moments.h")

SHAPES = [(2, 3, 37), (5, 40, 1), (4, 1, 9), (1, 7, 1), (3, 2, 1000), (2, 2, 70), (3, 0, 4), (0, 3, 1)]


def both(name, outputs, arguments, **options):
    """The arrays that the tuned kernel writes, and those of the portable one; `arguments` takes the arrays."""
    results = []
    for kernels in (K, K.portable):
        arrays = [np.full_like(array, np.nan) for array in outputs]
        getattr(kernels, name)(*arguments(*arrays), **options)
        results.append(arrays)
    return zip(*results, strict=True)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 4e-15)])
@pytest.mark.parametrize("outer, size, inner", SHAPES)
def test_tuned_equals_portable(dtype, tolerance, outer, size, inner):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, outer, size, inner)).astype(dtype)
    mean, scale, total, dot = rng.standard_normal((4, size)).astype(dtype)
    rows, columns = np.empty(outer * size, dtype), np.empty(size, dtype)
    r, s = rng.standard_normal((2, outer * size)).astype(dtype)
    of = (size, inner)
    exact = {
        "normalise": [
            ([x], lambda y: (x, mean, scale, y, None, *of)),
            ([x], lambda y: (x, mean, None, y, None, *of)),
            ([x, x], lambda y, kept: (x, mean, scale, y, kept, *of)),
            ([x, x], lambda y, kept: (x, mean, None, y, kept, *of)),
        ],
        "normalise_backward": [
            ([x], lambda dx: (x, mean, scale, dy, total, dot, dx, *of, 12)),
            ([x], lambda dx: (x, mean, None, dy, total, dot, dx, *of, 12)),
        ],
    }
    sums = {
        "row_moments": [([rows, rows], lambda m, q: (x, m, q, inner))] if inner else [],
        "row_products": [
            ([rows, rows], lambda t, d: (x, mean, dy, t, d, size, 1, inner)),
            ([rows, rows], lambda t, d: (x, mean, dy, t, d, 1, 2 * size, inner)),
        ],
        "group_moments": [
            ([columns, columns], lambda m, q: (r, s, m, q, outer, inner)),
        ]
        if outer
        else [],
    }
    assert sorted([*exact, *sums]) == sorted(K.tuned())
    for name, calls in exact.items():
        for outputs, arguments in calls:
            for tuned, portable in both(name, outputs, arguments):
                np.testing.assert_array_equal(tuned, portable, name)
    for name, calls in sums.items():
        for outputs, arguments in calls:
            for tuned, portable in both(name, outputs, arguments):
                assert_close(tuned, portable, tolerance * max(1, inner**0.5), name)
