import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, shapes, axis",
    [
        ("", [(2, 3, 4, 5), (2, 1, 4, 5)], 1),
        ("", [(2, 3), (2, 1), (2, 4)], 1),
        ("", [(2, 3)], 1),
        ("concat_param { axis: 0 }", [(2, 3), (5, 3)], 0),
        ("concat_param { axis: -1 }", [(2, 3, 4), (2, 3, 1)], 2),
        ("concat_param { axis: 2 }", [(2, 3, 4), (2, 3, 1)], 2),
        ("concat_param { concat_dim: 0 }", [(2, 3), (5, 3)], 0),
        ("concat_param { axis: 0 }", [(2,), (1,), (3,)], 0),
    ],
)
def test_concat(options, shapes, axis):
    check_layer(f'type: "Concat" {options}', shapes, lambda *x: np.concatenate(x, axis))


@pytest.mark.parametrize(
    "options, shapes, kind, text",
    [
        (
            "",
            [(2, 3, 4), (2, 3, 5)],
            ShapeError,
            '3:1: layer "concat" (Concat): bottom "b" (2, 3, 5) must have the shape of bottom "a" (2, 3, 4)'
            " on every axis but 1",
        ),
        (
            "",
            [(2, 3, 4), (2, 3)],
            ShapeError,
            '3:1: layer "concat" (Concat): bottom "b" (2, 3) must have the shape of bottom "a" (2, 3, 4)'
            " on every axis but 1",
        ),
        (
            "concat_param { axis: 3 }",
            [(2, 3, 4), (2, 3, 4)],
            ShapeError,
            '4:16: layer "concat" (Concat): axis: 3 is no axis of bottom "a" (2, 3, 4), which has 3 axes',
        ),
        (
            "concat_param { axis: 1 concat_dim: 1 }",
            [(2, 3), (2, 3)],
            DefinitionError,
            '4:24: layer "concat" (Concat): axis and its old name concat_dim are both given: keep axis',
        ),
    ],
)
def test_bad_input(options, shapes, kind, text):
    with pytest.raises(kind) as caught:
        Bench(f'type: "Concat"\nbottom: "a"\nbottom: "b"\n{options}', shapes)
    assert str(caught.value) == f"<text>:{text}"
