import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("low, high", [(-0.1, 0.6), (0, 1), (-10, 10), (0.5, 0.5)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_clip(low, high, shape):
    options = f"clip_param {{ min: {low} max: {high} }}"
    check_layer(f'type: "Clip" {options}', [shape], lambda x: np.clip(x, low, high), in_place=True)


def test_the_bounds_themselves_pass_the_gradient_on():
    bench = Bench('type: "Clip" clip_param { min: -1 max: 2 }', [(4,)])
    bench.forward([[-1.5, -1, 2, 2.5]], {})
    assert bench.backward([[3, 3, 3, 3]])[0][0].tolist() == [0, 3, 3, 0]


@pytest.mark.parametrize(
    "options, text",
    [
        ("max: 1", ' layer "clip" (Clip): min is missing: Clip needs min and max'),
        ("min: 1", ' layer "clip" (Clip): max is missing: Clip needs min and max'),
        ("min: 2 max: 1", '3:1: layer "clip" (Clip): min: 2 must not be above max: 1'),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(DefinitionError) as caught:
        Bench(f'type: "Clip"\nclip_param {{\n{options} }}', [(2,)])
    assert str(caught.value) == f"<text>:{text}"
