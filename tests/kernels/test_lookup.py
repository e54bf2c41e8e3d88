"""The CPU's rows, and its chains by sorting, are those of the portable kernels, to the bit."""

import numpy as np
import pytest

from layerforge.kernels import Kernels

K = Kernels("lookup.h")


def test_all_are_tested():
    assert sorted(K.tuned()) == ["add_rows", "chain_items", "place_rows", "take_rows"]


@pytest.mark.parametrize("items, rows", [(1, 1), (50, 7), (50, 1), (50, 5000), (3000, 40)])
def test_chains(items, rows):
    index = np.random.default_rng(0).integers(0, rows, items).astype(np.int32)
    results = []
    for kernels in (K, K.portable):
        following, first = np.full((2, items), -7, np.int32)
        kernels.chain_items(index, following, first, items)
        results.append((following, first))
    np.testing.assert_array_equal(*results)
    seen = set()
    for m in np.flatnonzero(first):
        chain = [m]
        while following[chain[-1]] >= 0:
            chain.append(following[chain[-1]])
        np.testing.assert_array_equal(chain, np.flatnonzero(index == index[m]))
        seen.update(chain)
    assert len(seen) == items


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "items, rows, inner", [(1, 1, 1), (50, 7, 33), (300, 90, 1), (20, 5, 5000), (0, 3, 4), (9, 3, 0)]
)
def test_rows(dtype, items, rows, inner):
    rng = np.random.default_rng(0)
    index = rng.integers(0, rows, items).astype(np.int32)
    following, first = np.empty((2, items), np.int32)
    K.chain_items(index, following, first, items)
    place = rng.integers(-1, max(items, 1), rows).astype(np.int32) if items else np.full(rows, -1, np.int32)
    w, b = rng.standard_normal((rows, inner)).astype(dtype), rng.standard_normal(inner).astype(dtype)
    dy = rng.standard_normal((items, inner)).astype(dtype)
    results = []
    for kernels in (K, K.portable):
        y, z, dw, dx = np.full_like(dy, np.nan), np.full_like(dy, np.nan), w.copy(), np.full_like(w, np.nan)
        kernels.take_rows(w, index, None, y, inner)
        kernels.take_rows(w, index, b, z, inner)
        kernels.add_rows(index, following, first, dy, dw, inner, count=items * inner)
        kernels.place_rows(dy, place, dx, inner)
        results.append((y, z, dw, dx))
    for tuned, portable in zip(*results, strict=True):
        np.testing.assert_array_equal(tuned, portable)
