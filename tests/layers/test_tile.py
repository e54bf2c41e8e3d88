import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, shape, repeats",
    [
        ("tiles: 3", (2, 6, 4), (1, 3, 1)),
        ("axis: -1 tiles: 2", (2, 6, 4), (1, 1, 2)),
        ("axis: 0 tiles: 4", (2, 3), (4, 1)),
        ("axis: 0 tiles: 2", (5,), (2,)),
        ("axis: 2 tiles: 1", (2, 3, 4), (1, 1, 1)),
    ],
)
def test_tile(options, shape, repeats):
    check_layer(f'type: "Tile" tile_param {{ {options} }}', [shape], lambda x: np.tile(x, repeats))


@pytest.mark.parametrize("options, given", [("tiles: 0", 0), ("", 0), ("tiles: -1", -1)])
def test_bad_input(options, given):
    with pytest.raises(DefinitionError) as caught:
        Bench(f'type: "Tile" tile_param {{ {options} }}', [(2, 3)])
    column = 27 if options else 14
    assert str(caught.value) == f'<text>:1:{column}: layer "tile" (Tile): tiles: {given} must be 1 or more'
