import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


def across(size=5, alpha=1.0, beta=0.75, k=1.0):
    def formula(x):
        side = size // 2
        squares = np.pad(x * x, [(0, 0), (side, side), *[(0, 0)] * (x.ndim - 2)])
        scale = k + alpha / size * sum(squares[:, i : i + x.shape[1]] for i in range(size))
        return x * scale**-beta

    return formula


def within(size=5, alpha=1.0, beta=0.75):
    def formula(x):
        side, (height, width) = size // 2, x.shape[2:]
        squares = np.pad(x * x, [(0, 0), (0, 0), (side, side), (side, side)])
        total = sum(squares[..., i : i + height, j : j + width] for i in range(size) for j in range(size))
        return x * (1 + alpha / size**2 * total) ** -beta

    return formula


@pytest.mark.parametrize(
    "options, shape, expected",
    [
        ("", (2, 7, 5, 4), across()),
        ("local_size: 3 alpha: 2 beta: 0.6 k: 1.5", (2, 7, 5, 4), across(3, 2, 0.6, 1.5)),
        ("local_size: 5 alpha: 0.0001 beta: 0.75", (2, 96, 3, 3), across(5, 0.0001)),
        ("local_size: 1 beta: 0.5", (2, 7, 5, 4), across(1, 1, 0.5)),
        ("local_size: 15 beta: 1", (2, 7, 5, 4), across(15, 1, 1)),
        ("local_size: 5 engine: CUDNN", (2, 3, 1, 1), across()),
        ("k: 2", (3, 12), across(k=2)),
        ("k: 2", (2, 6, 2, 3, 2), across(k=2)),
        ("", (1, 6, 40, 50), across()),
        ("norm_region: WITHIN_CHANNEL local_size: 3", (2, 7, 5, 4), within(3)),
        ("norm_region: WITHIN_CHANNEL local_size: 3 k: 9 alpha: 2 beta: 0.6", (2, 3, 5, 4), within(3, 2, 0.6)),
        ("norm_region: WITHIN_CHANNEL local_size: 7", (2, 2, 3, 2), within(7)),
        ("norm_region: WITHIN_CHANNEL local_size: 1 beta: 0.5", (2, 2, 3, 2), within(1, 1, 0.5)),
    ],
)
def test_lrn(options, shape, expected):
    check_layer(f'type: "LRN" lrn_param {{ {options} }}', [shape], expected)


@pytest.mark.parametrize(
    "kind, options, shape, text",
    [
        (
            DefinitionError,
            "local_size: 4",
            (2, 3, 4, 4),
            "<text>:2:13: {}: local_size: 4 must be odd, so that the window has a middle",
        ),
        (
            ShapeError,
            "",
            (2,),
            '<text>:1:27: {}: bottom "conv1" (2,) must have an axis of channels: (N, C, ...)',
        ),
        (
            ShapeError,
            "norm_region: WITHIN_CHANNEL",
            (2, 3, 4),
            '<text>:2:13: {}: norm_region: WITHIN_CHANNEL is for images (N, C, H, W), not for bottom "conv1" (2, 3, 4)',
        ),
    ],
)
def test_what_does_not_fit(kind, options, shape, text):
    with pytest.raises(kind) as error:
        Bench(f'name: "norm1" type: "LRN" bottom: "conv1"\nlrn_param {{ {options} }}', [shape])
    assert str(error.value) == text.format('layer "norm1" (LRN)')
