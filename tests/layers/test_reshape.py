import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, shape, top",
    [
        ("shape { dim: 0 dim: -1 }", (2, 3, 4, 5), (2, 60)),
        ("shape { dim: -1 }", (2, 3), (6,)),
        ("shape { dim: 3 dim: 2 }", (2, 3), (3, 2)),
        ("shape { dim: 0 dim: 0 dim: 0 }", (2, 3, 4), (2, 3, 4)),
        ("shape { dim: 2 dim: 5 dim: 0 dim: -1 }", (2, 3, 4, 5), (2, 5, 4, 3)),
        ("shape { dim: -1 } axis: 1", (2, 3, 4), (2, 12)),
        ("shape { dim: 0 dim: 2 dim: -1 } axis: 1", (2, 3, 4), (2, 3, 2, 2)),
        ("shape { dim: 1 } axis: 0 num_axes: 0", (2, 3), (1, 2, 3)),
        ("shape { dim: 1 } axis: 2 num_axes: 0", (2, 3, 4), (2, 3, 1, 4)),
        ("shape { dim: 1 dim: 1 } axis: -1 num_axes: 0", (2, 3), (2, 3, 1, 1)),
        ("shape { dim: -1 } axis: 1 num_axes: 2", (2, 3, 4, 5), (2, 12, 5)),
        ("shape { dim: 2 dim: 2 } axis: -3 num_axes: 1", (3, 4, 5), (3, 2, 2, 5)),
        ("axis: 1 num_axes: 1", (2, 1, 4), (2, 4)),
        ("axis: 0", (1, 1), ()),
    ],
)
def test_reshape(options, shape, top):
    check_layer(f'type: "Reshape" reshape_param {{ {options} }}', [shape], lambda x: x.reshape(top))


@pytest.mark.parametrize(
    "options, kind, text",
    [
        (
            "shape { dim: 4 dim: 2 }",
            ShapeError,
            '2:1: layer "reshape" (Reshape): shape: (4, 2) has 8 values, but bottom "bottom0" (2, 3) has 6',
        ),
        (
            "shape { dim: 4 dim: -1 }",
            ShapeError,
            '2:1: layer "reshape" (Reshape): shape: the 6 values of bottom "bottom0" (2, 3) do not divide by the 4 of'
            " the other dims",
        ),
        (
            "shape { dim: 2 dim: 3 dim: 0 }",
            ShapeError,
            '2:1: layer "reshape" (Reshape): shape: dim 2 is 0, but bottom "bottom0" (2, 3) has no axis 2 to copy',
        ),
        (
            "shape { dim: -1 dim: -1 }",
            DefinitionError,
            '2:1: layer "reshape" (Reshape): shape: only one dim may be -1',
        ),
        (
            "shape { dim: 3 dim: -2 }",
            DefinitionError,
            '2:16: layer "reshape" (Reshape): shape: dim -2 must be a size, 0 (the bottom\'s) or -1 (what is left'
            " over)",
        ),
        (
            "axis: 3",
            ShapeError,
            '2:1: layer "reshape" (Reshape): axis: 3 is no place in bottom "bottom0" (2, 3), which has 2 axes',
        ),
        (
            "axis: 1 num_axes: 2",
            ShapeError,
            '2:9: layer "reshape" (Reshape): num_axes: bottom "bottom0" (2, 3) has no 2 axes from 1 on; -1 takes all'
            " that there are",
        ),
    ],
)
def test_bad_input(options, kind, text):
    with pytest.raises(kind) as caught:
        Bench(f'type: "Reshape" reshape_param {{\n{options} }}', [(2, 3)])
    assert str(caught.value) == f"<text>:{text}"
