import numpy as np
import pytest

from layerforge import wire
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

LOSS = 'name: "loss" type: "InfogainLoss"'
LABELS = np.array([0, 4, 2, 2, 1, 0])
IMAGES = np.random.default_rng(3).integers(0, 5, (3, 1, 2, 4))
H = np.random.default_rng(4).uniform(-0.2, 1, (5, 5)).astype(np.float32)


def infogain(divisor=None, axis=1, ignored=None, h=None):
    def formula(x, label, matrix=h):
        matrix = matrix.reshape(x.shape[axis], -1)
        rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
        e = np.exp(rows - rows.max(1, keepdims=True))
        logarithms = np.log(e / e.sum(1, keepdims=True))
        counts = label.ravel() != ignored
        each = -(matrix[label.ravel().astype(int)] * logarithms).sum(1)
        return each[counts].sum() / max(1, counts.sum() if divisor is None else divisor)

    return formula


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", infogain()),
        ("loss_param { normalization: FULL }", infogain(6)),
        ("loss_param { normalization: NONE }", infogain(1)),
        ("loss_param { ignore_label: 2 }", infogain(ignored=2)),
        ("loss_param { ignore_label: 2 normalization: BATCH_SIZE }", infogain(6, ignored=2)),
    ],
)
@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 5, 5), (25,)])
def test_matrix_as_a_bottom(options, expected, shape):
    check_layer(f"{LOSS} {options}", [(6, 5), (6,), shape], expected, bottoms=[None, LABELS, H.reshape(shape)])


@pytest.mark.parametrize(
    "options, axis, shapes, labels",
    [
        ("", 1, [(3, 5, 2, 4), (3, 1, 2, 4)], IMAGES),
        ("infogain_loss_param { axis: -1 }", 2, [(3, 8, 5), (3, 8)], IMAGES.reshape(3, 8)),
        ("infogain_loss_param { axis: 0 }", 0, [(5, 24), (24,)], IMAGES.ravel()),
    ],
)
def test_images(options, axis, shapes, labels):
    check_layer(f"{LOSS} {options}", [*shapes, (5, 5)], infogain(axis=axis), bottoms=[None, labels, H])


@pytest.mark.parametrize("shape", [(1, 1, 5, 5), (5, 5)])
def test_matrix_from_a_file(tmp_path, shape):
    path = tmp_path / "infogain.binaryproto"
    wire.write_blob(path, H.reshape(shape))
    definition = f'{LOSS} infogain_loss_param {{ source: "{path}" }}'
    check_layer(definition, [(6, 5), (6,)], infogain(h=H.astype(np.float64)), bottoms=[None, LABELS])


@pytest.mark.parametrize("through", [(0,), (1,), (0, 1)])
def test_the_second_top_is_the_probability(through):
    def both(x, label, h):
        e = np.exp(x - x.max(1, keepdims=True))
        return infogain()(x, label, h), e / e.sum(1, keepdims=True)

    definition = f'{LOSS} top: "loss" top: "p"'
    check_layer(definition, [(6, 5), (6,), (5, 5)], both, bottoms=[None, LABELS, H], through=through)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_nothing(dtype):
    bench = Bench(LOSS, [(1, 2), (1,), (2, 2)], dtype=dtype)
    (value,) = bench.forward([[[1000, 0]], [1], [[1, 0], [0, 1]]], {})
    assert np.isclose(value, np.log(1e20), rtol=1e-6)


def test_a_label_that_is_no_class():
    bench = Bench(f'{LOSS}\nbottom: "x" bottom: "l" bottom: "h"', [(2, 5), (2,), (5, 5)])
    with pytest.raises(DataError) as caught:
        bench.forward([np.zeros((2, 5)), [1, 5], H], {})
    assert str(caught.value) == (
        '<text>:2:13: layer "loss" (InfogainLoss): label 5 of item 1 in bottom "l" (2,) must be one of the 5 classes, 0'
        " to 4. Mend the data, score more classes, or name a label that does not count in ignore_label"
    )


@pytest.mark.parametrize(
    "kind, shapes, options, text",
    [
        (
            DefinitionError,
            [(6, 5), (6,)],
            "",
            ': layer "loss" (InfogainLoss): source is missing: write source: "infogain.binaryproto", or give the matrix'
            " as a third bottom",
        ),
        (
            ShapeError,
            [(6, 5), (6,), (5, 4)],
            "",
            ':2:25: layer "loss" (InfogainLoss): bottom "h" (5, 4) must hold 5 x 5 values: bottom "x" (6, 5) has 5'
            " classes along axis 1",
        ),
        (
            ShapeError,
            [(6, 5), (7,), (5, 5)],
            "",
            ':2:13: layer "loss" (InfogainLoss): bottom "l" (7,) must hold 6 labels, not 7: one for each row of bottom'
            ' "x" (6, 5) along axis 1',
        ),
        (
            DataError,
            [(6, 5), (6,)],
            'infogain_loss_param {\nsource: "nowhere.binaryproto" }',
            ':3:1: layer "loss" (InfogainLoss): source "nowhere.binaryproto": cannot be read: No such file or'
            " directory; an array (.binaryproto) is wanted.",
        ),
    ],
)
def test_what_does_not_fit(kind, shapes, options, text):
    names = "".join(f'bottom: "{name}" ' for name in "xlh"[: len(shapes)])
    with pytest.raises(kind) as caught:
        Bench(f"{LOSS}\n{names}{options}", shapes)
    assert str(caught.value) == f"<text>{text}"


def test_a_file_of_another_size(tmp_path):
    path = tmp_path / "infogain.binaryproto"
    wire.write_blob(path, np.ones((4, 4), np.float32))
    with pytest.raises(ShapeError) as caught:
        Bench(f'{LOSS} bottom: "x" bottom: "l" infogain_loss_param {{\nsource: "{path}" }}', [(6, 5), (6,)])
    assert str(caught.value) == (
        f'<text>:2:1: layer "loss" (InfogainLoss): source "{path}" (4, 4) must hold 5 x 5 values: bottom "x" (6, 5) has'
        " 5 classes along axis 1"
    )
