import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", np.exp),
        ("base: 2", lambda x: 2**x),
        ("base: 0.5 scale: 3", lambda x: 0.5 ** (3 * x)),
        ("base: 2 shift: 1 scale: 3", lambda x: 2 ** (1 + 3 * x)),
        ("scale: 2 shift: -1", lambda x: np.exp(2 * x - 1)),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_exp(options, expected, shape):
    check_layer(f'type: "Exp" exp_param {{ {options} }}', [shape], expected, in_place=True)


@pytest.mark.parametrize("base", ["0", "-2"])
def test_a_base_that_is_none(base):
    with pytest.raises(DefinitionError) as caught:
        Bench(f'type: "Exp"\nexp_param {{ base: {base} }}', [(2,)])
    assert str(caught.value) == f'<text>:2:13: layer "exp" (Exp): base: {base} must be positive, or -1 for e'
