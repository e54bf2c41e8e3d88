import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, shape, top",
    [
        ("", (2, 3, 4, 5), (2, 60)),
        ("axis: 0", (2, 3, 4), (24,)),
        ("axis: 2", (2, 3, 4, 5), (2, 3, 20)),
        ("end_axis: 2", (2, 3, 4, 5), (2, 12, 5)),
        ("axis: -3 end_axis: -2", (2, 3, 4, 5), (2, 12, 5)),
        ("axis: 1 end_axis: 1", (2, 3, 4), (2, 3, 4)),
        ("", (2, 3), (2, 3)),
        ("axis: 0", (3,), (3,)),
    ],
)
def test_flatten(options, shape, top):
    check_layer(f'type: "Flatten" flatten_param {{ {options} }}', [shape], lambda x: x.reshape(top))


@pytest.mark.parametrize(
    "options, shape, text",
    [
        (
            "axis: 2 end_axis: 1",
            (2, 3, 4),
            '2:9: layer "flatten" (Flatten): end_axis: 1 must not be before axis 2 of bottom "bottom0" (2, 3, 4)',
        ),
        (
            "axis: 3",
            (2, 3, 4),
            '2:1: layer "flatten" (Flatten): axis: 3 is no axis of bottom "bottom0" (2, 3, 4), which has 3 axes',
        ),
        (
            "end_axis: -4",
            (2, 3, 4),
            '2:1: layer "flatten" (Flatten): end_axis: -4 is no axis of bottom "bottom0" (2, 3, 4), which has 3 axes',
        ),
    ],
)
def test_bad_input(options, shape, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'type: "Flatten" flatten_param {{\n{options} }}', [shape])
    assert str(caught.value) == f"<text>:{text}"
