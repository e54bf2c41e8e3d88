import numpy as np
import pytest

from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

ACCURACY = 'type: "Accuracy" '
LABELS = np.random.default_rng(1).integers(0, 5, 20)
IMAGES = np.random.default_rng(2).integers(0, 5, (4, 3, 2))


def hits(x, label, top_k=1, axis=1):
    """Which rows are right: fewer than top_k other scores are as large as that of the label."""
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    label = label.ravel().astype(int)
    return (rows >= rows[np.arange(len(rows)), label][:, None]).sum(1) - 1 < top_k


def accuracy(top_k=1, ignored=None, axis=1):
    return lambda x, label: hits(x, label, top_k, axis)[label.ravel() != ignored].mean()


def per_class(top_k=1, ignored=None, axis=1):
    def formula(x, label):
        right, label = hits(x, label, top_k, axis), label.ravel()
        of_class = [right[(label == c) & (label != ignored)] for c in range(x.shape[axis])]
        return right[label != ignored].mean(), np.array([r.mean() if len(r) else 0 for r in of_class])

    return formula


@pytest.mark.parametrize(
    "options, shape, label, expected",
    [
        ("", (20, 5), LABELS, accuracy()),
        ("accuracy_param { top_k: 3 }", (20, 5), LABELS, accuracy(3)),
        ("accuracy_param { top_k: 5 }", (20, 5), LABELS, accuracy(5)),
        ("accuracy_param { ignore_label: 1 }", (20, 5), LABELS, accuracy(ignored=1)),
        ("", (4, 5, 3, 2), IMAGES, accuracy()),
        ("accuracy_param { axis: -1 }", (4, 3, 2, 5), IMAGES, accuracy(axis=3)),
        ('top: "a" top: "c"', (20, 5), LABELS, per_class()),
        ('top: "a" top: "c" accuracy_param { top_k: 2 ignore_label: 0 }', (4, 5, 3, 2), IMAGES, per_class(2, 0)),
        ('top: "a" top: "c"', (3, 7), np.array([1, 1, 6]), per_class()),
    ],
)
def test_accuracy(options, shape, label, expected):
    check_layer(ACCURACY + options, [shape, label.shape], expected, bottoms=[None, label])


@pytest.mark.parametrize("top_k, expected", [(1, 0), (2, 0), (3, 0.5), (4, 1)])
def test_a_tie_counts_against_the_label(top_k, expected):
    bench = Bench(f"{ACCURACY} accuracy_param {{ top_k: {top_k} }}", [(2, 4), (2,)])
    assert bench.forward([[[1, 1, 1, 0], [2, 2, 2, 2]], [0, 3]], {}) == [expected]


@pytest.mark.parametrize("scores", [[np.nan, 0, 0], [1, 0, np.nan], [np.nan] * 3])
def test_a_nan_counts_against_the_label(scores):
    bench = Bench(ACCURACY, [(1, 3), (1,)])
    assert bench.forward([[scores], [0]], {}) == [0]


def test_nothing_counts():
    bench = Bench(f'{ACCURACY} top: "a" top: "c" accuracy_param {{ ignore_label: 2 }}', [(2, 3), (2,)])
    top, of_class = bench.forward([np.zeros((2, 3)), [2, 2]], {})
    assert top == 0
    assert of_class.tolist() == [0, 0, 0]


def test_a_label_that_is_no_class():
    bench = Bench(f'name: "top1" {ACCURACY}\nbottom: "fc8" bottom: "label"', [(2, 10), (2,)])
    with pytest.raises(DataError) as error:
        bench.forward([np.zeros((2, 10)), [9, 10]], {})
    assert str(error.value) == (
        '<text>:2:15: layer "top1" (Accuracy): label 10 of item 1 in bottom "label" (2,) must be one of the 10 classes,'
        " 0 to 9. Mend the data, score more classes, or name a label that does not count in ignore_label"
    )


@pytest.mark.parametrize(
    "kind, shapes, options, text",
    [
        (
            ShapeError,
            [(6, 5), (6, 2)],
            "",
            '2:15: layer "top1" (Accuracy): bottom "label" (6, 2) must hold 6 labels, not 12: '
            'one for each row of bottom "fc8" (6, 5) along axis 1',
        ),
        (
            ShapeError,
            [(6, 5), (6,)],
            "top_k: 6",
            '3:18: layer "top1" (Accuracy): top_k: 6 must be at most the 5 classes of bottom "fc8" (6, 5)',
        ),
        (
            DefinitionError,
            [(6, 5), (6,)],
            "top_k: 0",
            '3:18: layer "top1" (Accuracy): top_k: 0 must be at least 1',
        ),
    ],
)
def test_what_does_not_fit(kind, shapes, options, text):
    with pytest.raises(kind) as error:
        Bench(f'name: "top1" {ACCURACY}\nbottom: "fc8" bottom: "label"\naccuracy_param {{ {options} }}', shapes)
    assert str(error.value) == f"<text>:{text}"
