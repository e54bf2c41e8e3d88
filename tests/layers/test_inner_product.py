import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


def product(axis=1, transpose=False):
    def formula(x, weight, bias=0):
        rows = x.reshape(*x.shape[:axis], -1)
        return rows @ (weight if transpose else weight.T) + bias

    return formula


@pytest.mark.parametrize(
    "options, shape, expected",
    [
        ("", (3, 4, 2, 2), product()),
        ("", (1, 9), product()),
        ("", (7, 1), product()),
        ("bias_term: false", (3, 4, 2), product()),
        ("transpose: true", (4, 7), product(transpose=True)),
        ("transpose: true bias_term: false axis: 1", (2, 3, 4), product(transpose=True)),
        ("axis: 2", (2, 3, 4), product(2)),
        ("axis: -1", (2, 3, 4, 2), product(3)),
        ("axis: -2 transpose: true", (2, 3, 4), product(1, transpose=True)),
    ],
)
def test_inner_product(options, shape, expected):
    check_layer(f'type: "InnerProduct" inner_product_param {{ num_output: 5 {options} }}', [shape], expected)


def test_all_axes_are_one_vector():
    bench = Bench('type: "InnerProduct" inner_product_param { num_output: 2 axis: 0 }', [(3,)])
    (y,) = bench.forward([[1, 2, 3]], {"weight": [[1, 0, 0], [1, 1, 1]], "bias": [10, 20]})
    assert y.tolist() == [11, 26]
    (dx,), d = bench.backward([[1, 2]], start=1)
    assert dx.tolist() == [3, 2, 2]
    assert d["weight"].tolist() == [[2, 3, 4], [3, 5, 7]]
    assert d["bias"].tolist() == [2, 3]


def test_flops():
    bench = Bench('type: "InnerProduct" inner_product_param { num_output: 5 }', [(3, 4, 2)])
    assert bench.layer.flops([(3, 4, 2)], [(3, 5)]) == 3 * 5 * 8


@pytest.mark.parametrize("learns", ["weight", "bias", "neither"])
def test_only_what_learns_gets_a_gradient(learns):
    bench = Bench('type: "InnerProduct" inner_product_param { num_output: 5 }', [(3, 4)])
    bench.forward([np.ones((3, 4))], {"weight": np.ones((5, 4)), "bias": np.ones(5)})
    for name, parameter in bench.layer.params.items():
        parameter.needs_diff = name == learns
    bench.backward([np.ones((3, 5))], start=1)
    assert {name: set(p.diff.flat) for name, p in bench.layer.params.items()} == {
        name: {4.0 if name == learns else 1.0} for name in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "kind, options, text",
    [
        (DefinitionError, "", "<text>: {}: num_output is missing: write num_output: 10, say"),
        (DefinitionError, "num_output: 0", "<text>:2:23: {}: num_output: 0 must be at least 1"),
        (
            ShapeError,
            "num_output: 2 axis: -3",
            '<text>:2:37: {}: axis: -3 is no axis of bottom "pool2" (3, 4), which has 2 axes',
        ),
    ],
)
def test_what_does_not_fit(kind, options, text):
    definition = f'name: "ip1" type: "InnerProduct" bottom: "pool2"\ninner_product_param {{ {options} }}'
    with pytest.raises(kind) as error:
        Bench(definition, [(3, 4)])
    assert str(error.value) == text.format('layer "ip1" (InnerProduct)')


def test_shapes_that_change():
    definition = 'name: "ip1" type: "InnerProduct" bottom: "pool2" inner_product_param { num_output: 2 }'
    layer = Bench(definition, [(3, 4, 5)]).layer
    assert layer.top_shapes((7, 10, 2)) == [(7, 2)]
    layer.bottom_shapes = ((3, 4, 6),)
    with pytest.raises(ShapeError) as error:
        layer.top_shapes((3, 4, 6))
    assert str(error.value) == (
        '<text>:1:34: layer "ip1" (InnerProduct): bottom "pool2" (3, 4, 6) has 24 values from axis 1 on,'
        " but the weights were made for 20"
    )
