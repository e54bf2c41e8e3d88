"""Convolution of arrays in blocks of channels by columns, on the emulated device."""

from dataclasses import replace

import numpy as np
import pytest

from layerforge import engines
from layerforge.engines import Geometry, Turned
from layerforge.engines.columns import Columns
from layerforge.kernels import Kernels

K = Kernels("turn.h")
G = Geometry(5, 4, 6, 1, (7, 6), (3, 3), (1, 1), (1, 1), (1, 1), (7, 6))
CASES = [
    G,
    replace(G, group=2, stride=(2, 1), output=(4, 6)),
    replace(G, kernel=(1, 1), pad=(0, 0)),
    replace(G, spatial=(7,), kernel=(2,), stride=(1,), pad=(0,), dilation=(3,), output=(4,)),
    replace(G, batch=0),
]


@pytest.mark.parametrize("g", CASES)
@pytest.mark.parametrize("block", [(4, 6), (1, 6), (4, 1), (2, 3)])
@pytest.mark.parametrize("budget", [1, 2000, 1 << 20])
def test_the_numbers_of_plain_arrays(three_ways, g, block, budget):
    expected = three_ways(Columns(1 << 20), g)
    for name, values in three_ways(Turned(Columns(budget)).lying(block), g, block).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_shares_stay_within_the_budget():
    columns, image = 9 * 4 * 42, (4 + 6) * 42
    assert [Turned(Columns(n * (columns + image))).share(G).batch for n in (0, 1, 3, 100)] == [1, 1, 3, 5]


def test_it_is_there_for_blocks_alone():
    assert isinstance(engines.convolution("emulated", "DEFAULT", G, np.float32, (4, 6)), Turned)
    assert isinstance(engines.convolution("emulated", "DEFAULT", G, np.float32), Columns)
    assert engines.convolution("emulated", "DEFAULT", G, np.float64, (4, 6)) is None


@pytest.mark.parametrize("functions", [K, K.portable], ids=["any", "portable"])
@pytest.mark.parametrize("matrices, rows, columns", [(3, 4, 5), (1, 1, 7), (7, 6, 1), (2, 100, 64), (0, 2, 3)])
def test_turn(functions, matrices, rows, columns):
    x = np.random.default_rng(1).standard_normal((matrices, rows, columns))
    y = np.full((matrices, columns, rows), np.nan)
    functions.turn(x, y, rows, columns)
    np.testing.assert_array_equal(y, x.swapaxes(1, 2))
