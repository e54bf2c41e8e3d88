import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, shape, axis, cuts",
    [
        ("", (2, 6, 4, 5), 1, 2),
        ("", (2, 6), 1, 3),
        ("", (2, 6), 1, 1),
        ("slice_point: 1 slice_point: 4", (2, 6, 4), 1, [1, 4]),
        ("axis: 0 slice_point: 3", (5, 2), 0, [3]),
        ("axis: -1 slice_point: 1", (2, 3, 4), 2, [1]),
        ("slice_dim: 0", (4, 3), 0, 2),
    ],
)
def test_slice(options, shape, axis, cuts):
    tops = cuts if isinstance(cuts, int) else len(cuts) + 1
    names = " ".join(f'top: "y{k}"' for k in range(tops))
    definition = f'type: "Slice" {names} slice_param {{ {options} }}'
    check_layer(definition, [shape], lambda x: tuple(np.split(x, cuts, axis)))


def test_a_top_without_a_gradient_counts_as_0():
    bench = Bench('type: "Slice" top: "a" top: "b"', [(1, 4)])
    bench.forward([np.ones((1, 4))], {})
    assert bench.backward([None, [[5, 5]]])[0][0].tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize(
    "options, kind, text",
    [
        (
            "",
            ShapeError,
            ' layer "slice" (Slice): 2 tops must divide the 3 of axis 1 of bottom "bottom0" (2, 3), or give'
            " slice_point",
        ),
        (
            "slice_point: 1 slice_point: 2",
            ShapeError,
            '2:1: layer "slice" (Slice): slice_point: is given 2 times for 2 tops, which need 1',
        ),
        (
            "slice_point: 3",
            ShapeError,
            '2:1: layer "slice" (Slice): slice_point: [3] must rise, within the 3 of axis 1 of bottom "bottom0" (2, 3)',
        ),
        (
            "slice_point: 0",
            ShapeError,
            '2:1: layer "slice" (Slice): slice_point: [0] must rise, within the 3 of axis 1 of bottom "bottom0" (2, 3)',
        ),
        (
            "axis: 1 slice_dim: 1",
            DefinitionError,
            '2:9: layer "slice" (Slice): axis and its old name slice_dim are both given: keep axis',
        ),
    ],
)
def test_bad_input(options, kind, text):
    with pytest.raises(kind) as caught:
        Bench(f'type: "Slice" top: "a" top: "b" slice_param {{\n{options} }}', [(2, 3)])
    assert str(caught.value) == f"<text>:{text}"
