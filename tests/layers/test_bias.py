import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


def along(small, x, axis):
    """A small array with axes of size 1 around its own, so that it meets x from an axis on."""
    return small.reshape((1,) * axis + small.shape + (1,) * (x.ndim - axis - small.ndim))


@pytest.mark.parametrize(
    "options, shape, axis, size",
    [
        ("", (2, 3, 4, 5), 1, (3,)),
        ("axis: 2", (2, 3, 4, 5), 2, (4,)),
        ("axis: -1", (2, 3, 4), 2, (4,)),
        ("axis: 0 num_axes: 2", (2, 3, 4), 0, (2, 3)),
        ("axis: 0 num_axes: -1", (2, 3, 4), 0, (2, 3, 4)),
        ("num_axes: 0", (2, 3, 4), 0, ()),
        ("", (4, 6), 1, (6,)),
    ],
)
def test_learnt(options, shape, axis, size):
    definition = f'type: "Bias" bias_param {{ {options} }}'
    check_layer(definition, [shape], lambda x, bias: x + along(bias, x, axis), in_place=True)
    bias = Bench(definition, [shape]).layer.params["bias"]
    assert bias.shape == size and bias.filler.value == 0


@pytest.mark.parametrize(
    "options, shape, axis, size",
    [
        ("", (2, 3, 4, 5), 1, (3,)),
        ("axis: 0", (2, 3, 4, 5), 0, (2, 3)),
        ("axis: -1", (2, 3, 4), 2, (4,)),
        ("", (2, 3, 4), 0, ()),
        ("axis: 0", (2, 3), 0, (2, 3)),
    ],
)
def test_two_bottoms(options, shape, axis, size):
    definition = f'type: "Bias" bias_param {{ {options} }}'
    check_layer(definition, [shape, size], lambda x, b: x + along(b, x, axis), in_place=True)


@pytest.mark.parametrize(
    "options, shapes, text",
    [
        (
            "num_axes: 4",
            [(2, 3, 4, 5)],
            '2:1: layer "bias" (Bias): num_axes: bottom "bottom0" (2, 3, 4, 5) has no 4 axes from 1 on; -1 takes all'
            " that there are",
        ),
        (
            "axis: 4",
            [(2, 3, 4, 5)],
            '2:1: layer "bias" (Bias): axis: 4 is no axis of bottom "bottom0" (2, 3, 4, 5), which has 4 axes',
        ),
        (
            "",
            [(2, 3, 4, 5), (4,)],
            ' layer "bias" (Bias): bottom "bottom1" (4,) must have the shape of bottom "bottom0" (2, 3, 4, 5) from'
            " axis 1 on, as far as it goes",
        ),
    ],
)
def test_bad_input(options, shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'type: "Bias" bias_param {{\n{options} }}', shapes)
    assert str(caught.value) == f"<text>:{text}"
