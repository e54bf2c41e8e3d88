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
    definition = f'type: "Scale" scale_param {{ {options} }}'
    check_layer(definition, [shape], lambda x, scale: x * along(scale, x, axis), in_place=True)
    scale = Bench(definition, [shape]).layer.params["scale"]
    assert scale.shape == size and scale.filler.value == 1


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
    definition = f'type: "Scale" scale_param {{ {options} }}'
    check_layer(definition, [shape, size], lambda x, w: x * along(w, x, axis), in_place=True)


@pytest.mark.parametrize(
    "options, shape, axis",
    [
        ("", (2, 3, 4, 5), 1),
        ("axis: 0 num_axes: 2", (2, 3, 4), 0),
        ("num_axes: 0", (2, 3, 4), 0),
        ("axis: 2", (2, 3, 37), 2),
    ],
)
def test_bias_term(options, shape, axis):
    def expected(x, scale, bias):
        return x * along(scale, x, axis) + along(bias, x, axis)

    check_layer(f'type: "Scale" scale_param {{ {options} bias_term: true }}', [shape], expected, in_place=True)


def test_bias_term_with_two_bottoms():
    def expected(x, w, bias):
        return x * along(w, x, 1) + along(bias, x, 1)

    definition = 'type: "Scale" scale_param { bias_term: true bias_filler { value: 2 } }'
    check_layer(definition, [(2, 3, 4), (3,)], expected, in_place=True)
    (bias,) = Bench(definition, [(2, 3, 4), (3,)]).layer.blobs
    assert bias.shape == (3,) and bias.filler.value == 2


@pytest.mark.parametrize(
    "options, shapes, text",
    [
        (
            "num_axes: 4",
            [(2, 3, 4, 5)],
            '2:1: layer "scale" (Scale): num_axes: bottom "bottom0" (2, 3, 4, 5) has no 4 axes from 1 on; -1 takes all'
            " that there are",
        ),
        (
            "axis: 4",
            [(2, 3, 4, 5)],
            '2:1: layer "scale" (Scale): axis: 4 is no axis of bottom "bottom0" (2, 3, 4, 5), which has 4 axes',
        ),
        (
            "",
            [(2, 3, 4, 5), (4,)],
            ' layer "scale" (Scale): bottom "bottom1" (4,) must have the shape of bottom "bottom0" (2, 3, 4, 5) from'
            " axis 1 on, as far as it goes",
        ),
    ],
)
def test_bad_input(options, shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'type: "Scale" scale_param {{\n{options} }}', shapes)
    assert str(caught.value) == f"<text>:{text}"
