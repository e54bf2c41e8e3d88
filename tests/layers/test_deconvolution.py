import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

IMAGES = [(2, 4, 4, 5)]


def deconvolution(stride=1, pad=0, dilation=1, group=1, axis=1):
    """The formula, one product for each tap. Each option: a number, or one for each spatial axis."""

    def formula(*bottoms, weight, bias=None):
        axes = weight.ndim - 2
        s, p, d = (np.broadcast_to(option, axes) for option in (stride, pad, dilation))
        tops = []
        for x in bottoms:
            batch, x = x.shape[:axis], x.reshape(-1, *x.shape[axis:])
            whole = [s[a] * (x.shape[2 + a] - 1) + d[a] * (weight.shape[2 + a] - 1) + 1 for a in range(axes)]
            inputs, outputs = len(weight) // group, weight.shape[1]
            y = np.zeros((len(x), outputs * group, *whole))
            for tap in np.ndindex(weight.shape[2:]):
                seen = tuple(
                    slice(tap[a] * d[a], tap[a] * d[a] + s[a] * (x.shape[2 + a] - 1) + 1, s[a]) for a in range(axes)
                )
                for g in range(group):
                    mine = slice(g * inputs, (g + 1) * inputs)
                    part = np.einsum("co,nc...->no...", weight[(mine, slice(None), *tap)], x[:, mine])
                    y[(slice(None), slice(g * outputs, (g + 1) * outputs), *seen)] += part
            y = y[(slice(None), slice(None), *(slice(p[a], whole[a] - p[a]) for a in range(axes)))]
            if bias is not None:
                y = y + bias.reshape(-1, *[1] * axes)
            tops.append(y.reshape(*batch, *y.shape[1:]))
        return tuple(tops)

    return formula


@pytest.mark.parametrize(
    "options, shapes, expected",
    [
        ("kernel_size: 3 stride: 2", IMAGES, deconvolution(2)),
        ("kernel_size: 3", IMAGES, deconvolution()),
        ("kernel_size: 1", IMAGES, deconvolution()),
        ("kernel_size: 3 stride: 2 bias_term: false", IMAGES, deconvolution(2)),
        ("kernel_size: 3 pad: 1 stride: 2", IMAGES, deconvolution(2, 1)),
        ("kernel_size: 2 stride: 3", IMAGES, deconvolution(3)),
        ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0", IMAGES, deconvolution((2, 1), (1, 0))),
        ("kernel_size: 3 dilation: 2 pad: 2", IMAGES, deconvolution(1, 2, 2)),
        ("kernel_size: 3 dilation: 1 dilation: 2 stride: 2", IMAGES, deconvolution(2, 0, (1, 2))),
        ("kernel_size: 4 stride: 2 pad: 1 group: 4", IMAGES, deconvolution(2, 1, group=4)),
        ("kernel_size: 3 group: 2 engine: CAFFE", IMAGES, deconvolution(group=2)),
        ("", [(5, 4)], deconvolution()),
        ("kernel_size: 3 stride: 2", [(2, 4, 5)], deconvolution(2)),
        ("kernel_size: 2 stride: 2 pad: 1", [(2, 4, 2, 3, 2)], deconvolution(2, 1)),
        ("kernel_size: 2 group: 2 dilation: 2", [(1, 4, 2, 3, 2)], deconvolution(1, 0, 2, 2)),
        ("kernel_size: 3 axis: 2", [(2, 3, 4, 3, 3)], deconvolution(axis=2)),
        ("kernel_size: 3 axis: 0", [(4, 3, 3)], deconvolution(axis=0)),
        ("kernel_size: 3 stride: 2", [(2, 4, 3, 4)] * 2, deconvolution(2)),
    ],
)
def test_deconvolution(options, shapes, expected):
    tops = "".join(f'top: "y{i}"' for i in range(len(shapes)))
    check_layer(f'type: "Deconvolution" {tops} convolution_param {{ num_output: 8 {options} }}', shapes, expected)


def test_blobs():
    options = "num_output: 6 kernel_size: 3 kernel_size: 2 group: 2"
    bench = Bench(f'type: "Deconvolution" convolution_param {{ {options} }}', IMAGES)
    assert [p.shape for p in bench.layer.blobs] == [(4, 3, 3, 2), (6,)]
    assert bench.layer.flops([x.shape for x in bench.bottom], []) == 2 * 4 * 3 * 6 * 4 * 5


@pytest.mark.parametrize("learns", ["weight", "bias", "neither"])
def test_only_what_learns_gets_a_gradient(learns):
    """As with lr_mult: 0 for one of them."""
    bench = Bench('type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 3 }', IMAGES)
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(p.shape) for name, p in bench.layer.params.items()}
    x, dy = rng.standard_normal(IMAGES[0]), rng.standard_normal(bench.top[0].shape)
    bench.forward([x], values)
    (dx,), both = bench.backward([dy])
    for name, parameter in bench.layer.params.items():
        parameter.needs_diff = name == learns
    (again,), _ = bench.backward([dy], start=1)
    np.testing.assert_array_equal(again, dx)
    for name, parameter in bench.layer.params.items():
        np.testing.assert_allclose(parameter.diff, both[name] + 1 if name == learns else 1, rtol=1e-12)


@pytest.mark.parametrize(
    "kind, options, text",
    [
        (
            DefinitionError,
            "kernel_size: 3",
            ': layer "up" (Deconvolution): num_output is missing: write num_output: 64, say',
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 0",
            ':2:15: layer "up" (Deconvolution): kernel_size: 0 must be at least 1',
        ),
        (
            ShapeError,
            "num_output: 9 kernel_size: 3 group: 3",
            ':2:30: layer "up" (Deconvolution): group: 3 must divide the 4 channels of bottom "pool1" (2, 4, 4, 5)',
        ),
        (
            ShapeError,
            "num_output: 6 kernel_size: 3 group: 4",
            ':2:30: layer "up" (Deconvolution): group: 4 must divide num_output: 6',
        ),
        (
            ShapeError,
            "num_output: 6 kernel_size: 2 pad: 3",
            ':2:30: layer "up" (Deconvolution): pad: 3 on both sides leaves nothing of the 5 that the windows on bottom'
            ' "pool1" (2, 4, 4, 5) cover: lower pad',
        ),
    ],
)
def test_what_does_not_fit(kind, options, text):
    with pytest.raises(kind) as caught:
        Bench(f'name: "up" type: "Deconvolution" bottom: "pool1" convolution_param {{\n{options} }}', IMAGES)
    assert str(caught.value) == f"<text>{text}"
