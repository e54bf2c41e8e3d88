import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

CROP = 'name: "crop" type: "Crop"'
SHAPES = [(3, 6, 5, 6), (2, 4, 3, 4)]


@pytest.mark.parametrize(
    "options, shapes, part",
    [
        ("", SHAPES, np.s_[:, :, :3, :4]),
        ("offset: 2", SHAPES, np.s_[:, :, 2:5, 2:6]),
        ("axis: 2 offset: 0 offset: 1", SHAPES, np.s_[:, :, :3, 1:5]),
        ("axis: 0", SHAPES, np.s_[:2, :4, :3, :4]),
        ("axis: 0 offset: 1", SHAPES, np.s_[1:3, 1:5, 1:4, 1:5]),
        ("axis: 1 offset: 2 offset: 1 offset: 0", SHAPES, np.s_[:, 2:6, 1:4, :4]),
        ("axis: -1 offset: 2", SHAPES, np.s_[:, :, :, 2:6]),
        ("axis: 2 offset: 1 offset: 0 offset: 2", [(2, 1, 3, 4, 5), (9, 9, 2, 4, 3)], np.s_[:, :, 1:3, :, 2:5]),
        ("axis: 0 offset: 3", [(7,), (4,)], np.s_[3:7]),
    ],
)
def test_crop(options, shapes, part):
    check_layer(f"{CROP} crop_param {{ {options} }}", shapes, lambda x, like: x[part])


@pytest.mark.parametrize(
    "kind, options, shapes, text",
    [
        (
            DefinitionError,
            "offset: 1 offset: 1\noffset: 1",
            SHAPES,
            ':2:41: layer "crop" (Crop): offset is given 3 times for the 2 axes of bottom "x" (3, 6, 5, 6) from axis 2'
            " on: give it once, or once for each axis",
        ),
        (
            ShapeError,
            "\noffset: 3",
            SHAPES,
            ':3:1: layer "crop" (Crop): offset: 3 + the 3 of bottom "like" (2, 4, 3, 4) on axis 2 must be at most the 5'
            ' of bottom "x" (3, 6, 5, 6)',
        ),
        (
            ShapeError,
            "axis: 1",
            [(3, 6, 5), (3, 7, 5)],
            ':2:13: layer "crop" (Crop): offset: 0 + the 7 of bottom "like" (3, 7, 5) on axis 1 must be at most the 6'
            ' of bottom "x" (3, 6, 5)',
        ),
        (
            ShapeError,
            "",
            [(3, 6, 5), (3, 6)],
            ':2:13: layer "crop" (Crop): bottom "like" (3, 6) must have the axes of bottom "x" (3, 6, 5)',
        ),
        (
            ShapeError,
            "axis: 3",
            [(3, 6, 5), (3, 6, 5)],
            ':2:41: layer "crop" (Crop): axis: 3 is no axis of bottom "x" (3, 6, 5), which has 3 axes',
        ),
    ],
)
def test_bad_input(kind, options, shapes, text):
    with pytest.raises(kind) as caught:
        Bench(f'{CROP}\nbottom: "x" bottom: "like" crop_param {{ {options} }}', shapes)
    assert str(caught.value) == f"<text>{text}"
