import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shapes", [[(4, 3, 2), (4, 3, 2)], [(5,), (5, 1)], [(2, 3, 4), (2, 12)], [(1, 1), (1,)]])
def test_euclidean_loss(shapes):
    def expected(x, t):
        return np.sum((x.reshape(t.shape) - t) ** 2) / (2 * len(x))

    check_layer('type: "EuclideanLoss"', shapes, expected)


def test_the_loss_weight_scales_the_gradient():
    bench = Bench('type: "EuclideanLoss"', [(2, 1), (2, 1)])
    bench.forward([[[3], [5]], [[1], [6]]], {})
    (dx, dt), _ = bench.backward([0.5])
    assert dx.tolist() == [[0.5], [-0.25]] and dt.tolist() == [[-0.5], [0.25]]


def test_an_empty_batch_has_loss_0():
    bench = Bench('type: "EuclideanLoss"', [(0, 3), (0, 3)])
    assert bench.forward([np.zeros((0, 3))] * 2, {})[0] == 0


@pytest.mark.parametrize("shape", [(4, 2), (3, 4), (), (12, 1)])
def test_bad_input(shape):
    with pytest.raises(ShapeError) as caught:
        Bench('type: "EuclideanLoss"\nbottom: "x"\nbottom: "t"', [(4, 3), shape])
    assert str(caught.value) == (
        f'<text>:3:1: layer "euclideanloss" (EuclideanLoss): bottom "t" {shape} must have the size of axis 0 and'
        ' the count of bottom "x" (4, 3)'
    )
