import numpy as np
import pytest

from layerforge.errors import DataError, ShapeError
from layerforge.testing import Bench, check_layer

HINGE = 'name: "loss" type: "HingeLoss"'
LABELS = np.array([0, 4, 2, 2, 1, 0])


def hinge(power):
    def formula(x, label):
        rows = x.reshape(len(x), -1)
        sign = np.where(np.arange(rows.shape[1]) == label.reshape(-1, 1), 1, -1)
        return (np.maximum(0, 1 - sign * rows) ** power).sum() / len(x)

    return formula


@pytest.mark.parametrize("options, power", [("", 1), ("norm: L1", 1), ("norm: L2", 2)])
@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 2, 2), (6, 40)])
def test_hinge_loss(options, power, shape):
    definition = f"{HINGE} hinge_loss_param {{ {options} }}"
    check_layer(definition, [shape, (6,)], hinge(power), bottoms=[None, LABELS])


def test_a_label_may_have_any_shape():
    check_layer(HINGE, [(6, 5), (6, 1, 1, 1)], hinge(1), bottoms=[None, LABELS.reshape(6, 1, 1, 1)])


def test_the_weight_of_the_loss():
    bench = Bench(HINGE, [(2, 2), (2,)])
    bench.forward([[[0, 0], [3, 3]], [0, 1]], {})
    (dx, _), _ = bench.backward([5])
    assert dx.tolist() == [[-2.5, 2.5], [2.5, 0]]


@pytest.mark.parametrize(
    "label, text",
    [
        ([0, 5], "label 5 of item 1"),
        ([-1, 0], "label -1 of item 0"),
        ([0, np.nan], "label nan of item 1"),
    ],
)
def test_a_label_that_is_no_class(label, text):
    bench = Bench(f'{HINGE}\nbottom: "x" bottom: "l"', [(2, 5), (2,)])
    with pytest.raises(DataError) as caught:
        bench.forward([np.zeros((2, 5)), label], {})
    assert str(caught.value) == (
        f'<text>:2:13: layer "loss" (HingeLoss): {text} in bottom "l" (2,) must be one of the 5 classes, 0 to 4.'
        " Mend the data, or score more classes"
    )


@pytest.mark.parametrize(
    "shapes, text",
    [
        (
            [(6, 5), (5,)],
            ':2:13: layer "loss" (HingeLoss): bottom "l" (5,) must hold one label for each item of bottom "x"'
            " (6, 5), along axis 0",
        ),
        ([(6, 0), (6,)], ':2:1: layer "loss" (HingeLoss): bottom "x" (6, 0) has no classes'),
    ],
)
def test_bad_shapes(shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'{HINGE}\nbottom: "x" bottom: "l"', shapes)
    assert str(caught.value) == f"<text>{text}"
