import numpy as np
import pytest

from layerforge.errors import DataError, ShapeError
from layerforge.testing import Bench, check_layer

LOSS = 'name: "loss" type: "MultinomialLogisticLoss"'
LABELS = np.array([0, 4, 2, 2, 1, 0])


def log_loss(p, label):
    own = p.reshape(len(p), -1)[np.arange(len(p)), label.ravel().astype(int)]
    return -np.log(own).sum() / len(p)


@pytest.mark.parametrize("shape, label", [((6, 5), (6,)), ((6, 5), (6, 1, 1, 1)), ((6, 5, 1, 1), (6,))])
def test_multinomial_logistic_loss(shape, label):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 6).reshape(shape)
    check_layer(LOSS, [shape, label], log_loss, bottoms=[p, LABELS.reshape(label)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_nothing(dtype):
    bench = Bench(LOSS, [(2, 2), (2,)], dtype=dtype)
    (value,) = bench.forward([[[0, 1], [0.5, 0.5]], [0, 1]], {})
    assert np.isclose(value, (np.log(1e20) + np.log(2)) / 2, rtol=1e-6)
    (dp, _), _ = bench.backward([1])
    np.testing.assert_allclose(dp, [[-0.5e20, 0], [0, -1]], rtol=1e-6)


def test_a_label_that_is_no_class():
    bench = Bench(f'{LOSS}\nbottom: "p" bottom: "l"', [(2, 5), (2,)])
    with pytest.raises(DataError) as caught:
        bench.forward([np.ones((2, 5)), [1, 9]], {})
    assert str(caught.value) == (
        '<text>:2:13: layer "loss" (MultinomialLogisticLoss): label 9 of item 1 in bottom "l" (2,) must be one of the 5'
        " classes, 0 to 4. Mend the data, or score more classes"
    )


def test_bad_shapes():
    with pytest.raises(ShapeError) as caught:
        Bench(f'{LOSS}\nbottom: "p" bottom: "l"', [(6, 5), (6, 2)])
    assert str(caught.value) == (
        '<text>:2:13: layer "loss" (MultinomialLogisticLoss): bottom "l" (6, 2) must hold one label for each item of'
        ' bottom "p" (6, 5), along axis 0'
    )
