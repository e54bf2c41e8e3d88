import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", np.log),
        ("base: 2", np.log2),
        ("base: 10 scale: 3 shift: 1", lambda x: np.log10(3 * x + 1)),
        ("scale: -2 shift: 9", lambda x: np.log(9 - 2 * x)),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_log(options, expected, shape):
    check_layer(f'type: "Log" log_param {{ {options} }}', [shape], expected, in_place=True, bottoms=[(0.2, 4)])


def test_at_0_and_below():
    bench = Bench('type: "Log"', [(2,)])
    assert np.array_equal(bench.forward([[0, -1]], {})[0], [-np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("base", ["0", "1", "-2"])
def test_a_base_that_is_none(base):
    with pytest.raises(DefinitionError) as caught:
        Bench(f'type: "Log"\nlog_param {{ base: {base} }}', [(2,)])
    assert str(caught.value) == f'<text>:2:13: layer "log" (Log): base: {base} must be positive and not 1, or -1 for e'
