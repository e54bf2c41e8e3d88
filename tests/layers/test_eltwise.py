import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


def largest(*bottoms):
    return np.max(bottoms, axis=0)


def product(*bottoms):
    return np.prod(bottoms, axis=0)


@pytest.mark.parametrize(
    "options, bottoms, expected",
    [
        ("", 2, lambda x, z: x + z),
        ("operation: SUM", 4, lambda *x: sum(x)),
        ("operation: SUM coeff: 1 coeff: -0.5", 2, lambda x, z: x - 0.5 * z),
        ("coeff: 2 coeff: 0 coeff: -3", 3, lambda x, z, w: 2 * x + 0 * z - 3 * w),
        ("operation: PROD", 2, product),
        ("operation: PROD", 3, product),
        ("operation: PROD stable_prod_grad: false", 4, product),
        ("operation: MAX", 2, largest),
        ("operation: MAX", 3, largest),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_eltwise(options, bottoms, expected, shape):
    check_layer(f'type: "Eltwise" eltwise_param {{ {options} }}', [shape] * bottoms, expected)


def test_the_stable_gradient_of_a_product_at_0():
    bench = Bench('type: "Eltwise" eltwise_param { operation: PROD }', [(1,)] * 3)
    bench.forward([[0], [2], [3]], {})
    diffs, _ = bench.backward([[1]])
    assert [dx.item() for dx in diffs] == [6, 0, 0]


@pytest.mark.parametrize(
    "values, winner",
    [((1, 1), 1), ((1, 1, 1), 1), ((2, 1, 2), 0), ((1, 2, 2), 1), ((1, 2, 3, 3), 2), ((3, 2, 3, 3), 0)],
)
def test_who_wins_a_tie(values, winner):
    bench = Bench('type: "Eltwise" eltwise_param { operation: MAX }', [(1,)] * len(values))
    (y,) = bench.forward([[v] for v in values], {})
    diffs, _ = bench.backward([[5]])
    assert y.item() == max(values)
    assert [dx.item() for dx in diffs] == [5 * (k == winner) for k in range(len(values))]


@pytest.mark.parametrize(
    "options, shapes, kind, text",
    [
        (
            "",
            [(2, 3), (2, 4)],
            ShapeError,
            '3:1: layer "eltwise" (Eltwise): bottom "b" (2, 4) must have the shape of bottom "a" (2, 3)',
        ),
        (
            "operation: PROD coeff: 1 coeff: 2",
            [(2,), (2,)],
            DefinitionError,
            '5:17: layer "eltwise" (Eltwise): coeff: is for operation SUM, not for PROD',
        ),
        (
            "coeff: 1 coeff: 2 coeff: 3",
            [(2,), (2,)],
            DefinitionError,
            '5:1: layer "eltwise" (Eltwise): coeff: is given 3 times for 2 bottoms: give one for each, or none',
        ),
    ],
)
def test_bad_input(options, shapes, kind, text):
    with pytest.raises(kind) as caught:
        Bench(f'type: "Eltwise"\nbottom: "a"\nbottom: "b"\neltwise_param {{\n{options} }}', shapes)
    assert str(caught.value) == f"<text>:{text}"
