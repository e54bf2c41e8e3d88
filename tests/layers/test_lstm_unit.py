import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


def lstm_unit(before, x, cont):
    def s(v):
        return 1 / (1 + np.exp(-v))

    i, f, o, g = np.split(x, 4, 2)
    c = np.where(cont[..., None] == 0, 0, cont[..., None] * s(f) * before) + s(i) * np.tanh(g)
    return c, s(o) * np.tanh(c)


@pytest.mark.parametrize("batch, hidden, cont", [(3, 4, [1, 0, 1]), (1, 7, [1]), (4, 5, [0, 0, 0, 0]), (5, 1, [1] * 5)])
@pytest.mark.parametrize("through", [(0, 1), (0,), (1,)])
def test_lstm_unit(batch, hidden, cont, through):
    shapes = [(1, batch, hidden), (1, batch, 4 * hidden), (1, batch)]
    definition = 'type: "LSTMUnit" top: "c" top: "h"'
    check_layer(definition, shapes, lstm_unit, bottoms=[None, (-4, 4), np.array(cont)], through=through)


def test_a_sequence_begins_whatever_was_before():
    bench = Bench('type: "LSTMUnit" top: "c" top: "h"', [(1, 1, 2), (1, 1, 8), (1, 1)])
    c, h = bench.forward([[[[np.nan, np.inf]]], np.ones((1, 1, 8)), [[0]]], {})
    assert np.isfinite(c).all() and np.isfinite(h).all()
    (before, x, _), _ = bench.backward([np.ones((1, 1, 2))] * 2)
    assert not before.any() and np.isfinite(x).all()


@pytest.mark.parametrize(
    "shapes, text",
    [
        (
            [(2, 3, 4), (2, 3, 16), (2, 3)],
            ':2:1: layer "u" (LSTMUnit): bottom "c" (2, 3, 4) must be (1, N, D), one step of N sequences',
        ),
        (
            [(1, 3, 4), (1, 3, 15), (1, 3)],
            ':2:13: layer "u" (LSTMUnit): bottom "x" (1, 3, 15) must be (1, 3, 16), to fit bottom "c" (1, 3, 4)',
        ),
        (
            [(1, 3, 4), (1, 3, 16), (3,)],
            ':2:25: layer "u" (LSTMUnit): bottom "s" (3,) must be (1, 3), to fit bottom "c" (1, 3, 4)',
        ),
    ],
)
def test_bad_shapes(shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench('name: "u" type: "LSTMUnit" top: "c2" top: "h2"\nbottom: "c" bottom: "x" bottom: "s"', shapes)
    assert str(caught.value) == f"<text>{text}"
