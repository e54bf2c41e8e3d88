import numpy as np
import pytest

from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("tops", [1, 2, 3, 4, 5, 9])
def test_split(tops):
    names = " ".join(f'top: "y{k}"' for k in range(tops))
    check_layer(f'type: "Split" {names}', [(2, 3, 4)], lambda x: (x,) * tops)


@pytest.mark.parametrize("written", [(), (0,), (2,), (0, 2), (0, 1, 2)])
def test_tops_without_a_gradient_count_as_0(written):
    bench = Bench('type: "Split" top: "a" top: "b" top: "c"', [(4,)])
    bench.forward([np.arange(4)], {})
    diffs = [np.full(4, 10.0**k) if k in written else None for k in range(3)]
    (dx,), _ = bench.backward(diffs)
    assert dx.tolist() == [sum(10.0**k for k in written)] * 4
