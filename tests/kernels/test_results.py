"""What the host asks of a pass."""

import numpy as np
import pytest

from layerforge.kernels import Kernels

K = Kernels("results.h")
R = Kernels("reduce.h")


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_total(size, dtype):
    x, total = np.random.default_rng(1).standard_normal(size).astype(dtype), np.full(1, np.nan)
    K.total_of(x, total, size)
    assert total[0] == pytest.approx(x.sum(dtype=np.float64), abs=1e-12)


@pytest.mark.parametrize("index, wrong", [([], False), ([0, 3, 2], False), ([0, -1, 2], True), ([-1], True)])
def test_no_row(index, wrong):
    worst = np.ones(1, np.float32)
    K.no_row(np.array(index, np.int32), worst, len(index))
    assert np.isnan(worst[0]) if wrong else worst[0] == 0


@pytest.mark.parametrize("bound, factor", [(10, 1), (5, 1), (2.5, 0.5)])
def test_clip(bound, factor):
    norm, scale = np.empty(1), np.empty(1, np.float32)
    R.clip(np.array([9.0, 16.0]), norm, scale, 2, 0.25, bound)
    assert (norm[0], scale[0]) == (5, 0.25 * factor)
