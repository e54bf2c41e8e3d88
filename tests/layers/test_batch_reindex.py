import numpy as np
import pytest

from layerforge.errors import DataError, ShapeError
from layerforge.testing import Bench, check_layer

INDEX = np.array([0, 4, 4, 0, 1, 2, 4])


@pytest.mark.parametrize(
    "shape, index",
    [((5, 2, 3), INDEX), ((5,), INDEX), ((5, 0), INDEX), ((5, 4), np.array([3])), ((5, 70), np.arange(4, -1, -1))],
)
def test_batch_reindex(shape, index):
    check_layer('type: "BatchReindex"', [shape, index.shape], lambda x, i: x[i.astype(int)], bottoms=[None, index])


def test_fractions_are_cut_off():
    bench = Bench('type: "BatchReindex"', [(3,), (3,)], dtype=np.float32)
    assert bench.forward([[5, 6, 7], [0.9, 2.99, -0.5]], {})[0].tolist() == [5, 7, 5]


@pytest.mark.parametrize(
    "shapes, index, text",
    [
        ([(3, 2), (4,)], [0, 1, 3, 0], 'index 3 of item 2 in bottom "i" (4,) must be one of 0 to 2'),
        ([(3, 2), (4,)], [0, -1, 3, 0], 'index -1 of item 1 in bottom "i" (4,) must be one of 0 to 2'),
        ([(3, 2), (2,)], [np.nan, 0], 'index nan of item 0 in bottom "i" (2,) must be one of 0 to 2'),
        ([(0, 2), (1,)], [0], 'index 0 of item 0 in bottom "i" (1,) must be a row, but there are none'),
    ],
)
def test_bad_index(shapes, index, text):
    bench = Bench('name: "r" type: "BatchReindex"\nbottom: "x" bottom: "i"', shapes)
    with pytest.raises(DataError) as caught:
        bench.forward([np.zeros(shapes[0]), index], {})
    assert str(caught.value) == f'<text>:2:13: layer "r" (BatchReindex): {text}'


@pytest.mark.parametrize(
    "shapes, text",
    [
        ([(3, 2), (3, 1)], ':2:13: layer "r" (BatchReindex): bottom "i" (3, 1) must have one axis, (M,)'),
        ([(), (3,)], ':2:1: layer "r" (BatchReindex): bottom "x" () must have an axis of items'),
    ],
)
def test_bad_shapes(shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench('name: "r" type: "BatchReindex"\nbottom: "x" bottom: "i"', shapes)
    assert str(caught.value) == f"<text>{text}"
