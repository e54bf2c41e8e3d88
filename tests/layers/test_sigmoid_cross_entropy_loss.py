import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

LOSS = 'name: "loss" type: "SigmoidCrossEntropyLoss"'
TARGETS = np.random.default_rng(3).integers(0, 3, (6, 5))


def loss(divisor=None, ignored=None):
    """The formula; without a divisor, the number of values that count."""

    def formula(x, target):
        counts = np.trunc(target) != ignored
        each = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        return each[counts].sum() / max(1, counts.sum() if divisor is None else divisor)

    return formula


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", loss(6)),
        ("normalization: BATCH_SIZE", loss(6)),
        ("normalization: FULL", loss(30)),
        ("normalization: VALID", loss()),
        ("normalization: NONE", loss(1)),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 2.5", loss(2.5)),
        ("normalize: true", loss()),
        ("normalize: false", loss(6)),
        ("normalize: true normalization: NONE", loss(1)),
        ("ignore_label: 1", loss(6, 1)),
        ("ignore_label: 1 normalization: VALID", loss(ignored=1)),
        ("ignore_label: 2 normalize: true", loss(ignored=2)),
        ("ignore_label: 0 normalization: FULL", loss(30, 0)),
    ],
)
@pytest.mark.parametrize("targets", [TARGETS, (0.0, 1.0), (-1.0, 2.5)])
def test_sigmoid_cross_entropy_loss(options, expected, targets):
    check_layer(f"{LOSS} loss_param {{ {options} }}", [(6, 5), (6, 5)], expected, bottoms=[None, targets])


@pytest.mark.parametrize("shapes", [[(3, 2, 2, 4), (3, 16)], [(4,), (4, 1)]])
def test_shapes(shapes):
    check_layer(LOSS, shapes, lambda x, t: loss(len(x))(x, t.reshape(x.shape)), bottoms=[None, (0, 1)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores(dtype):
    bench = Bench(LOSS, [(1, 4), (1, 4)], dtype=dtype)
    assert bench.forward([[[1000, -1000, 1000, -1000]], [[1, 0, 0, 1]]], {}) == [2000]
    (dx, _), _ = bench.backward([1])
    assert dx.tolist() == [[0, 0, 1, -1]]


def test_nothing_counts():
    bench = Bench(f"{LOSS} loss_param {{ ignore_label: -1 normalization: VALID }}", [(2, 3), (2, 3)])
    assert bench.forward([np.ones((2, 3)), -np.ones((2, 3))], {}) == [0]
    (dx, _), _ = bench.backward([1])
    assert not dx.any()


@pytest.mark.parametrize(
    "kind, shapes, options, text",
    [
        (
            ShapeError,
            [(6, 5), (6, 4)],
            "",
            ':2:13: layer "loss" (SigmoidCrossEntropyLoss): bottom "t" (6, 4) must hold as many values as bottom "x"'
            " (6, 5)",
        ),
        (
            ShapeError,
            [(), ()],
            "",
            ':2:1: layer "loss" (SigmoidCrossEntropyLoss): bottom "x" () must have an axis of items',
        ),
        (
            DefinitionError,
            [(6, 5), (6, 5)],
            "\nloss_param { class_weighting: 2 }",
            ':3:14: layer "loss" (SigmoidCrossEntropyLoss): class_weighting: only forks of Caffe weigh the loss in this'
            " way; take the line out",
        ),
    ],
)
def test_what_does_not_fit(kind, shapes, options, text):
    with pytest.raises(kind) as caught:
        Bench(f'{LOSS}\nbottom: "x" bottom: "t" {options}', shapes)
    assert str(caught.value) == f"<text>{text}"
