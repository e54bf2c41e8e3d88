import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


def spp(height, pool):
    """The formula: pool(window, number of its positions with padding)."""

    def formula(x):
        parts = []
        for bins in 2 ** np.arange(height):
            kernel = [-(-size // bins) for size in x.shape[2:]]
            pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, x.shape[2:], strict=True)]
            level = np.zeros((*x.shape[:2], bins, bins))
            for i, j in np.ndindex(bins, bins):
                begin = [n * k - p for n, k, p in zip((i, j), kernel, pad, strict=True)]
                end = [min(b + k, s + p) for b, k, s, p in zip(begin, kernel, x.shape[2:], pad, strict=True)]
                window = x[:, :, max(begin[0], 0) : end[0], max(begin[1], 0) : end[1]]
                level[:, :, i, j] = pool(window, (end[0] - begin[0]) * (end[1] - begin[1]))
            parts.append(level.reshape(len(x), -1))
        return np.concatenate(parts, 1) if height > 1 else parts[0].reshape(*x.shape[:2], 1, 1)

    return formula


def maximum(window, _):
    return window.max((2, 3))


def average(window, positions):
    return window.sum((2, 3)) / positions


def weighted(window, _):
    return (window**2).sum((2, 3)) / window.sum((2, 3))


@pytest.mark.parametrize(
    "options, shape, expected",
    [
        ("pyramid_height: 3", (2, 3, 9, 7), spp(3, maximum)),
        ("pyramid_height: 2 pool: AVE", (1, 2, 6, 6), spp(2, average)),
        ("pyramid_height: 3 pool: MAX", (1, 2, 14, 9), spp(3, maximum)),
        ("pyramid_height: 3 pool: AVE", (2, 1, 9, 7), spp(3, average)),
        ("pyramid_height: 1", (2, 3, 5, 4), spp(1, maximum)),
        ("pyramid_height: 1 pool: AVE engine: CAFFE", (2, 3, 5, 4), spp(1, average)),
        ("pyramid_height: 4", (1, 1, 16, 15), spp(4, maximum)),
    ],
)
def test_spp(options, shape, expected):
    check_layer(f'type: "SPP" spp_param {{ {options} }}', [shape], expected)


def test_stochastic():
    definition = 'type: "SPP" spp_param { pyramid_height: 3 pool: STOCHASTIC }'
    check_layer(definition, [(2, 3, 9, 7)], spp(3, weighted), bottoms=[(0.1, 2.0)], phase=lf.TEST)
    x = np.random.default_rng(0).uniform(0.1, 2, (2, 3, 9, 7)).astype(np.float32)
    bench = Bench(definition, [x.shape], dtype=np.float32)
    (y,) = bench.forward([x], {})
    assert np.isin(y, x).all() and len(np.unique(y)) > 40
    (dx,), _ = bench.backward([np.ones_like(y)])
    assert dx.sum() == y.size and np.isin(y, x[dx > 0]).all()


def test_an_image_of_another_size():
    layer = Bench('type: "SPP" spp_param { pyramid_height: 3 }', [(2, 3, 9, 7)]).layer
    assert layer.top_shapes((1, 3, 40, 31)) == [(1, 63)]


@pytest.mark.parametrize(
    "kind, options, shape, text",
    [
        (
            DefinitionError,
            "",
            (1, 1, 8, 8),
            ': layer "spp" (SPP): pyramid_height is missing: write pyramid_height: 3, say',
        ),
        (
            DefinitionError,
            "pyramid_height: 0",
            (1, 1, 8, 8),
            ':2:1: layer "spp" (SPP): pyramid_height: 0 must be at least 1',
        ),
        (
            ShapeError,
            "pyramid_height: 3",
            (1, 1, 8, 5),
            ':2:1: layer "spp" (SPP): pyramid_height: 3 cuts 5 pixels of bottom "x" (1, 1, 8, 5) into 4 windows of 2,'
            " of which some would be empty: lower it",
        ),
        (
            ShapeError,
            "pyramid_height: 2",
            (1, 1, 8),
            ':1:25: layer "spp" (SPP): bottom "x" (1, 1, 8) must be (N, C, H, W)',
        ),
        (
            ShapeError,
            "pyramid_height: 2",
            (1, 1, 0, 4),
            ':1:25: layer "spp" (SPP): bottom "x" (1, 1, 0, 4) holds no pixel',
        ),
    ],
)
def test_bad_input(kind, options, shape, text):
    with pytest.raises(kind) as caught:
        Bench(f'name: "spp" type: "SPP" bottom: "x" spp_param {{\n{options} }}', [shape])
    assert str(caught.value) == f"<text>{text}"
