import numpy as np
import pytest

from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

LOSS = 'type: "SoftmaxWithLoss" '
LABELS = np.array([0, 4, 2, 2, 1, 0])
IMAGES = np.random.default_rng(3).integers(0, 5, (3, 1, 2, 4))


def loss(divisor=None, axis=1, ignored=None):
    """The formula; without a divisor, the number of rows that count."""

    def formula(x, label):
        rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
        with np.errstate(invalid="ignore"):
            e = np.exp(rows - rows.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        counts = label.ravel() != ignored
        each = -np.log(p[np.arange(len(p)), label.ravel().astype(int)])
        return each[counts].sum() / max(1, counts.sum() if divisor is None else divisor)

    return formula


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", loss()),
        ("loss_param { normalization: VALID }", loss()),
        ("loss_param { normalization: FULL }", loss(6)),
        ("loss_param { normalization: BATCH_SIZE }", loss(6)),
        ("loss_param { normalization: NONE }", loss(1)),
        ("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 2.5 }", loss(2.5)),
        ("loss_param { ignore_label: 2 }", loss(4, ignored=2)),
        ("loss_param { ignore_label: 2 normalization: FULL }", loss(6, ignored=2)),
        ("loss_param { ignore_label: 2 normalize: true }", loss(4, ignored=2)),
        ("loss_param { ignore_label: 2 normalize: false }", loss(6, ignored=2)),
        ("loss_param { ignore_label: 2 normalize: false normalization: NONE }", loss(1, ignored=2)),
        ("loss_param { ignore_label: -1 }", loss()),
    ],
)
def test_rows(options, expected):
    check_layer(LOSS + options, [(6, 5), (6,)], expected, bottoms=[None, LABELS])


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", loss(24)),
        ("loss_param { ignore_label: 0 }", loss(ignored=0)),
        ("loss_param { normalization: BATCH_SIZE }", loss(3)),
        ("loss_param { normalization: FULL ignore_label: 0 }", loss(24, ignored=0)),
    ],
)
def test_images(options, expected):
    check_layer(LOSS + options, [(3, 5, 2, 4), (3, 1, 2, 4)], expected, bottoms=[None, IMAGES])


@pytest.mark.parametrize("rows, classes", [(256, 3), (257, 3), (5, 32), (5, 33), (1, 1), (1100, 2)])
def test_few_and_many(rows, classes):
    labels = np.arange(rows) % classes
    options = "loss_param { ignore_label: 1 }"
    check_layer(LOSS + options, [(rows, classes), (rows,)], loss(ignored=1), bottoms=[None, labels])


@pytest.mark.parametrize("axis", [2, -1])
def test_another_axis(axis):
    labels = np.arange(12).reshape(3, 4, 1) % 5
    options = f"softmax_param {{ axis: {axis} }} loss_param {{ normalization: BATCH_SIZE }}"
    check_layer(LOSS + options, [(3, 4, 5), (3, 4, 1)], loss(12, axis=2), bottoms=[None, labels])


@pytest.mark.parametrize("through", [(0,), (1,), (0, 1)])
def test_the_second_top_is_the_probability(through):
    def both(x, label):
        e = np.exp(x - x.max(1, keepdims=True))
        return loss()(x, label), e / e.sum(1, keepdims=True)

    definition = LOSS + 'top: "loss" top: "p"'
    check_layer(definition, [(6, 5), (6,)], both, bottoms=[None, LABELS], through=through)


def test_many_rows_are_added_exactly():
    """Float sums of so many numbers would be wrong in the fifth digit."""
    bench = Bench(LOSS, [(300_000, 2), (300_000,)], dtype=np.float32)
    x = np.zeros((300_000, 2))
    assert bench.forward([x, np.zeros(300_000)], {})[0] == np.float32(np.log(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_nothing(dtype):
    bench = Bench(LOSS, [(2, 2), (2,)], dtype=dtype)
    (value,) = bench.forward([[[1000, 0], [-80, 0]], [1, 0]], {})
    assert np.isclose(value, (126 * np.log(2) + 80) / 2, rtol=1e-6)
    (dx, _), _ = bench.backward([1])
    assert np.allclose(dx, [[0.5, -0.5], [-0.5, 0.5]], rtol=1e-6)


def test_nothing_counts():
    bench = Bench(LOSS + "loss_param { ignore_label: 7 }", [(2, 3), (2,)])
    assert bench.forward([np.ones((2, 3)), [7, 7]], {}) == [0]
    (dx, _), _ = bench.backward([1])
    assert not dx.any()


def test_fractions_are_cut_off():
    bench = Bench(LOSS, [(3, 2), (3,)])
    x = [[1, 2], [3, 5], [0, 4]]
    assert bench.forward([x, [0.9, 1.5, -0.5]], {}) == bench.forward([x, [0, 1, 0]], {})


@pytest.mark.parametrize(
    "shapes, options, label, text",
    [
        (
            [(6, 5), (6,)],
            "",
            [0, 1, 2, 5, 0, 0],
            'label 5 of item 3 in bottom "label" (6,) must be one of the 5 classes, 0 to 4. '
            "Mend the data, score more classes, or name a label that does not count in ignore_label",
        ),
        (
            [(6, 5), (6,)],
            "loss_param { ignore_label: 255 }",
            [255, 255, -1, 255, 0, 0],
            'label -1 of item 2 in bottom "label" (6,) must be one of the 5 classes, 0 to 4. '
            "Mend the data, score more classes, or name a label that does not count in ignore_label",
        ),
        (
            [(2, 3, 1, 2), (2, 1, 1, 2)],
            "",
            [[[[0, 1]]], [[[2, np.nan]]]],
            'label nan of item 1, at (1, 0, 0, 1) in bottom "label" (2, 1, 1, 2) must be one of the 3 classes, 0 to 2. '
            "Mend the data, score more classes, or name a label that does not count in ignore_label",
        ),
        (
            [(2, 3), (2,)],
            "",
            [3.5, 0],
            'label 3.5 of item 0 in bottom "label" (2,) must be one of the 3 classes, 0 to 2. '
            "Mend the data, score more classes, or name a label that does not count in ignore_label",
        ),
    ],
)
def test_a_label_that_is_no_class(shapes, options, label, text):
    definition = f'name: "loss" {LOSS}\nbottom: "fc8" bottom: "label" {options}'
    bench = Bench(definition, shapes)
    with pytest.raises(DataError) as error:
        bench.forward([np.zeros(shapes[0]), label], {})
    assert str(error.value) == f'<text>:2:15: layer "loss" (SoftmaxWithLoss): {text}'


@pytest.mark.parametrize(
    "kind, shapes, options, text",
    [
        (
            ShapeError,
            [(6, 5), (5,)],
            "",
            ':2:15: layer "loss" (SoftmaxWithLoss): bottom "label" (5,) must hold 6 labels, not 5: '
            'one for each row of bottom "fc8" (6, 5) along axis 1',
        ),
        (
            ShapeError,
            [(6, 0), (6,)],
            "",
            ':2:1: layer "loss" (SoftmaxWithLoss): bottom "fc8" (6, 0) has no classes along axis 1',
        ),
        (
            ShapeError,
            [(6,), (6,)],
            "",
            ': layer "loss" (SoftmaxWithLoss): axis: 1 is no axis of bottom "fc8" (6,), which has 1 axes',
        ),
        (
            DefinitionError,
            [(6, 5), (6,)],
            "\nloss_param { label_smoothing: 0.1 }",
            ':3:14: layer "loss" (SoftmaxWithLoss): label_smoothing: '
            "only forks of Caffe weigh the loss in this way; take the line out",
        ),
        (
            DefinitionError,
            [(6, 5), (6,)],
            "\nloss_param { only_care_label: 0 }",
            ':3:14: layer "loss" (SoftmaxWithLoss): only_care_label: '
            "only forks of Caffe weigh the loss in this way; take the line out",
        ),
    ],
)
def test_what_does_not_fit(kind, shapes, options, text):
    with pytest.raises(kind) as error:
        Bench(f'name: "loss" {LOSS}\nbottom: "fc8" bottom: "label" {options}', shapes)
    assert str(error.value) == f"<text>{text}"
