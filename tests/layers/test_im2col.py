import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

IMAGES = (2, 3, 6, 5)


def im2col(kernel, stride=1, pad=0, dilation=1, axis=1):
    def formula(x):
        axes = x.ndim - axis - 1
        k, s, p, d = (np.broadcast_to(option, axes) for option in (kernel, stride, pad, dilation))
        batch, x = x.shape[:axis], x.reshape(-1, *x.shape[axis:])
        x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in p)])
        out = [(x.shape[2 + a] - d[a] * (k[a] - 1) - 1) // s[a] + 1 for a in range(axes)]
        parts = []
        for tap in np.ndindex(*k):
            seen = (slice(tap[a] * d[a], tap[a] * d[a] + s[a] * (out[a] - 1) + 1, s[a]) for a in range(axes))
            parts.append(x[(slice(None), slice(None), *seen)])
        return np.stack(parts, 2).reshape(*batch, -1, *out)

    return formula


@pytest.mark.parametrize(
    "options, shape, expected",
    [
        ("kernel_size: 3", IMAGES, im2col(3)),
        ("kernel_size: 1", IMAGES, im2col(1)),
        ("kernel_size: 3 stride: 2 pad: 1", IMAGES, im2col(3, 2, 1)),
        ("kernel_h: 3 kernel_w: 2 dilation: 2", (2, 2, 8, 6), im2col((3, 2), 1, 0, 2)),
        ("kernel_size: 3 force_nd_im2col: true pad: 1 pad: 0", IMAGES, im2col(3, 1, (1, 0))),
        ("kernel_size: 2 stride: 2", (2, 3, 7), im2col(2, 2)),
        ("kernel_size: 2 pad: 1 stride: 2", (2, 1, 3, 4, 5), im2col(2, 2, 1)),
        ("kernel_size: 2 axis: 2", (2, 3, 2, 3, 4), im2col(2, axis=2)),
        ("kernel_size: 2 axis: -3", IMAGES, im2col(2)),
        ("kernel_size: 2 axis: 0", (3, 4, 5), im2col(2, axis=0)),
    ],
)
def test_im2col(options, shape, expected):
    check_layer(f'type: "Im2col" convolution_param {{ {options} }}', [shape], expected)


@pytest.mark.parametrize(
    "kind, options, text",
    [
        (DefinitionError, "stride: 2", ': layer "cols" (Im2col): kernel_size is missing: write kernel_size: 3, say'),
        (DefinitionError, "kernel_size: 3 stride: 0", ':2:16: layer "cols" (Im2col): stride: 0 must be at least 1'),
        (
            ShapeError,
            "kernel_size: 4 dilation: 2",
            ':2:1: layer "cols" (Im2col): a window of 7 is larger than the 6 that bottom "x" (2, 3, 6, 5) has with its'
            " padding: lower kernel_size or dilation, or raise pad",
        ),
        (
            ShapeError,
            "axis: 4",
            ':2:1: layer "cols" (Im2col): axis: 4 is no axis of bottom "x" (2, 3, 6, 5), which has 4 axes',
        ),
    ],
)
def test_what_does_not_fit(kind, options, text):
    with pytest.raises(kind) as caught:
        Bench(f'name: "cols" type: "Im2col" bottom: "x" convolution_param {{\n{options} }}', [IMAGES])
    assert str(caught.value) == f"<text>{text}"


def test_another_number_of_axes():
    layer = Bench('name: "cols" type: "Im2col" bottom: "x" convolution_param { kernel_size: 2 }', [IMAGES]).layer
    layer.bottom_shapes = ((2, 3, 6),)
    with pytest.raises(ShapeError) as caught:
        layer.top_shapes((2, 3, 6))
    assert (
        caught.value.message
        == 'layer "cols" (Im2col): bottom "x" (2, 3, 6) must have 2 spatial axes, as it had at first'
    )
