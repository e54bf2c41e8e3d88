import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


def argmax(k=1, axis=None, values=False):
    def formula(x):
        rows = np.moveaxis(x, axis, -1) if axis is not None else x.reshape(len(x), -1)
        order = np.flip(np.argsort(rows, axis=-1, kind="stable"), -1)[..., :k]
        largest = np.take_along_axis(rows, order, -1)
        if axis is not None:
            return np.moveaxis(largest if values else order, -1, axis)
        both = np.stack([order, largest] if values else [order], 1)
        return both.reshape(*both.shape, *[1] * (x.ndim - 3))

    return formula


@pytest.mark.parametrize(
    "options, shape, expected",
    [
        ("", (3, 5, 4, 2), argmax()),
        ("out_max_val: true", (3, 5, 4, 2), argmax(values=True)),
        ("top_k: 3", (3, 5, 4, 2), argmax(3)),
        ("top_k: 3 out_max_val: true", (3, 5, 4, 2), argmax(3, values=True)),
        ("top_k: 40", (3, 5, 4, 2), argmax(40)),
        ("", (3, 7), argmax()),
        ("", (3,), argmax()),
        ("top_k: 2 out_max_val: true", (3, 2, 2, 2, 2), argmax(2, values=True)),
        ("axis: 1", (3, 5, 4, 2), argmax(axis=1)),
        ("axis: 0", (3, 5, 4, 2), argmax(axis=0)),
        ("axis: -1 top_k: 2", (3, 5, 4, 2), argmax(2, -1)),
        ("axis: 1 top_k: 5 out_max_val: true", (3, 5, 4), argmax(5, 1, True)),
        ("axis: 0 top_k: 2", (6,), argmax(2, 0)),
    ],
)
def test_argmax(options, shape, expected):
    check_layer(f'type: "ArgMax" argmax_param {{ {options} }}', [shape], expected)


def test_ties_and_nan():
    definition = 'type: "ArgMax" argmax_param { axis: 1 top_k: 4 }'
    x = [[1, 2, 2, 1], [np.nan, 3, np.nan, 4], [-np.inf, np.inf, -np.inf, np.inf]]
    (y,) = Bench(definition, [(3, 4)]).forward([x], {})
    assert y.tolist() == [[2, 1, 3, 0], [2, 0, 3, 1], [3, 1, 2, 0]]


@pytest.mark.parametrize(
    "kind, options, text",
    [
        (DefinitionError, "top_k: 0", ':2:1: layer "argmax" (ArgMax): top_k: 0 must be at least 1'),
        (
            ShapeError,
            "top_k: 21",
            ':2:1: layer "argmax" (ArgMax): top_k: 21 must be at most the 20 values of bottom "bottom0" (3, 5, 4)',
        ),
        (
            ShapeError,
            "axis: 1 top_k: 6",
            ':2:9: layer "argmax" (ArgMax): top_k: 6 must be at most the 5 values of bottom "bottom0" (3, 5, 4)',
        ),
        (
            ShapeError,
            "axis: -4",
            ':2:1: layer "argmax" (ArgMax): axis: -4 is no axis of bottom "bottom0" (3, 5, 4), which has 3 axes',
        ),
    ],
)
def test_bad_input(kind, options, text):
    with pytest.raises(kind) as caught:
        Bench(f'type: "ArgMax" argmax_param {{\n{options} }}', [(3, 5, 4)])
    assert str(caught.value) == f"<text>{text}"


def test_no_axis():
    with pytest.raises(ShapeError) as caught:
        Bench('type: "ArgMax"', [()])
    assert caught.value.message == 'layer "argmax" (ArgMax): bottom "bottom0" () must have an axis'
