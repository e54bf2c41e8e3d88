"""The CPU's steps in vectors compute what the portable kernels do."""

import numpy as np
import pytest

from layerforge.kernels import Kernels
from layerforge.testing import assert_close

K = Kernels("recurrent.h")


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-14)])
@pytest.mark.parametrize("batch, hidden", [(3, 5), (1, 1), (40, 129), (0, 4), (2, 0)])
@pytest.mark.parametrize("whole", [True, False])
def test_tuned_equals_portable(dtype, tolerance, batch, hidden, whole):
    assert sorted(K.tuned()) == ["lstm_backward", "lstm_forward"]
    rng = np.random.default_rng(0)
    x = rng.uniform(-6, 6, (batch, 4 * hidden)).astype(dtype)
    before, dy, dh, dc = rng.standard_normal((4, batch, hidden)).astype(dtype)
    cont = rng.integers(0, 2, batch).astype(dtype)
    diffs = (dy, dh, dc) if whole else (None, None, None)
    size = batch * hidden
    results = []
    for kernels in (K, K.portable):
        gates, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
        c, h, dbefore = (np.full_like(before, np.nan) for _ in range(3))
        kernels.lstm_forward(x, cont, before, gates, c, h, hidden, count=size)
        kernels.lstm_backward(gates, cont, before, c, *diffs, dx, dbefore, hidden, count=size)
        results.append((gates, c, h, dx, dbefore))
    for tuned, portable in zip(*results, strict=True):
        assert_close(tuned, portable, tolerance)
