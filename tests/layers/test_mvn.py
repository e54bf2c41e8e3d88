import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, assert_close, check_layer


def mvn(across=False, variance=True, eps=1e-9):
    def formula(x):
        rows = x.reshape(x.shape[0] if across else int(np.prod(x.shape[:2])), -1)
        centred = rows - rows.mean(1, keepdims=True)
        return (centred / (rows.std(1, keepdims=True) + eps) if variance else centred).reshape(x.shape)

    return formula


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 9), (2, 2, 3, 2, 2)])
@pytest.mark.parametrize(
    "options, expected",
    [
        ("", mvn()),
        ("across_channels: true", mvn(True)),
        ("normalize_variance: false", mvn(variance=False)),
        ("across_channels: true normalize_variance: false", mvn(True, False)),
        ("eps: 1e-7", mvn(eps=1e-7)),
    ],
)
def test_mvn(shape, options, expected):
    check_layer(f'type: "MVN" mvn_param {{ {options} }}', [shape], expected, in_place=True)


def test_few_axes():
    check_layer('type: "MVN" mvn_param { across_channels: true }', [(3, 7)], mvn(True), in_place=True)
    check_layer('type: "MVN" mvn_param { normalize_variance: false }', [(3, 7)], lambda x: np.where(x == x, 0 * x, x))
    check_layer('type: "MVN" mvn_param { normalize_variance: false }', [(3,)], lambda x: np.where(x == x, 0 * x, x))


@pytest.mark.parametrize("across", [False, True])
def test_a_large_eps_is_left_out_of_the_derivative(across):
    """As in Caffe: mean(dy y) is subtracted times y, though y is not of variance 1."""
    bench = Bench(f'type: "MVN" mvn_param {{ eps: 0.5 across_channels: {str(across).lower()} }}', [(2, 3, 4)])
    x, dy = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    (y,) = bench.forward([x], {})
    (dx,), _ = bench.backward([dy])
    axes = (1, 2) if across else 2
    slope = dy - dy.mean(axes, keepdims=True) - y * (dy * y).mean(axes, keepdims=True)
    assert_close(dx, slope / (x.std(axes, keepdims=True) + 0.5), 1e-12)


def test_no_axis():
    with pytest.raises(ShapeError) as caught:
        Bench('type: "MVN"', [()])
    assert str(caught.value) == '<text>: layer "mvn" (MVN): bottom "bottom0" () must have an axis of items'
