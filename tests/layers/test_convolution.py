import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer, pairtest


def convolution(stride=1, pad=0, dilation=1, group=1, axis=1):
    """The formula, one product for each tap. Each option: a number, or one for each spatial axis."""

    def formula(*bottoms, weight, bias=None):
        axes = weight.ndim - 2
        s, p, d = (np.broadcast_to(option, axes) for option in (stride, pad, dilation))
        tops = []
        for x in bottoms:
            batch = x.shape[:axis]
            x = x.reshape(-1, *x.shape[axis:])
            padded = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in p)])
            extent = [d[a] * (weight.shape[2 + a] - 1) + 1 for a in range(axes)]
            out = [(padded.shape[2 + a] - extent[a]) // s[a] + 1 for a in range(axes)]
            outputs, inputs = len(weight) // group, weight.shape[1]
            y = np.zeros((len(x), len(weight), *out))
            for tap in np.ndindex(weight.shape[2:]):
                seen = tuple(slice(tap[a] * d[a], tap[a] * d[a] + s[a] * (out[a] - 1) + 1, s[a]) for a in range(axes))
                for g in range(group):
                    mine = slice(g * outputs, (g + 1) * outputs)
                    part = padded[(slice(None), slice(g * inputs, (g + 1) * inputs), *seen)]
                    y[:, mine] += np.einsum("oc,nc...->no...", weight[(mine, slice(None), *tap)], part)
            if bias is not None:
                y += bias.reshape(-1, *[1] * axes)
            tops.append(y.reshape(*batch, *y.shape[1:]))
        return tuple(tops)

    return formula


IMAGES = [(2, 4, 7, 6)]


@pytest.mark.parametrize(
    "options, shapes, expected",
    [
        ("kernel_size: 3", IMAGES, convolution()),
        ("kernel_size: 3 bias_term: false", IMAGES, convolution()),
        ("kernel_size: 1", IMAGES, convolution()),
        ("kernel_size: 1 stride: 2 pad: 1", IMAGES, convolution(2, 1)),
        ("kernel_size: 3 kernel_size: 2", IMAGES, convolution()),
        ("kernel_size: 3 pad: 1 stride: 2", IMAGES, convolution(2, 1)),
        ("kernel_size: 3 pad: 4", IMAGES, convolution(1, 4)),
        ("kernel_size: 2 stride: 3", IMAGES, convolution(3)),
        ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0", IMAGES, convolution((2, 1), (1, 0))),
        ("kernel_size: 3 pad_w: 2", IMAGES, convolution(1, (0, 2))),
        (
            "kernel_size: 3 stride: 2 stride: 1 pad: 1 pad: 0 dilation: 1 dilation: 2",
            IMAGES,
            convolution((2, 1), (1, 0), (1, 2)),
        ),
        ("kernel_size: 3 dilation: 2 pad: 2", IMAGES, convolution(1, 2, 2)),
        ("kernel_size: 3 hole: 2 pad: 2", IMAGES, convolution(1, 2, 2)),
        ("kernel_size: 3 hole_h: 1 hole_w: 2 pad: 2", IMAGES, convolution(1, 2, (1, 2))),
        ("kernel_size: 3 group: 2", IMAGES, convolution(group=2)),
        ("kernel_size: 3 group: 4 pad: 1", IMAGES, convolution(1, 1, group=4)),
        ("kernel_size: 3 engine: CAFFE force_nd_im2col: true", IMAGES, convolution()),
        ("kernel_size: 3 engine: CUDNN", IMAGES, convolution()),
        ("kernel_h: 7 kernel_w: 6", IMAGES, convolution()),
        ("", [(5, 4)], convolution()),
        ("kernel_size: 2", [(5, 4)], convolution()),
        ("kernel_size: 3 pad: 1 stride: 2", [(2, 4, 9)], convolution(2, 1)),
        ("kernel_size: 2", [(2, 4, 3, 4, 5)], convolution()),
        ("kernel_size: 2 kernel_size: 1 kernel_size: 3 pad: 1 stride: 2", [(2, 4, 3, 4, 5)], convolution(2, 1)),
        ("kernel_size: 2 dilation: 2 group: 2", [(1, 4, 3, 4, 5)], convolution(1, 0, 2, 2)),
        ("kernel_size: 3 axis: 2", [(2, 3, 4, 6, 5)], convolution(axis=2)),
        ("kernel_size: 3 axis: -2", [(2, 3, 4, 6)], convolution(axis=2)),
        ("kernel_size: 3 axis: 0", [(4, 6, 5)], convolution(axis=0)),
        ("kernel_size: 3 pad: 1", [(2, 4, 5, 4)] * 3, convolution(1, 1)),
    ],
)
def test_convolution(options, shapes, expected):
    tops = "".join(f'top: "y{i}"' for i in range(len(shapes)))
    check_layer(f'type: "Convolution" {tops} convolution_param {{ num_output: 8 {options} }}', shapes, expected)


def test_force_nd_makes_no_difference():
    same = 'type: "Convolution" convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2'
    pairtest(f"{same} }}", f"{same} force_nd_im2col: true }}", [(2, 4, 7, 6)], tolerance=0)


def test_flops():
    bench = Bench('type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 group: 2 }', [(2, 4, 7, 6)])
    assert bench.layer.flops([x.shape for x in bench.bottom], [y.shape for y in bench.top]) == 2 * 5 * 4 * 6 * 2 * 9


@pytest.mark.parametrize("learns", ["weight", "bias", "neither"])
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (0, 4, 7, 6)])
def test_only_what_learns_gets_a_gradient(learns, shape):
    """As with lr_mult: 0 for one of them."""
    bench = Bench('type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 }', [shape])
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(p.shape) for name, p in bench.layer.params.items()}
    x, dy = rng.standard_normal(shape), rng.standard_normal(bench.top[0].shape)
    bench.forward([x], values)
    (dx,), both = bench.backward([dy])
    for name, parameter in bench.layer.params.items():
        parameter.needs_diff = name == learns
    (again,), one = bench.backward([dy], start=1)
    np.testing.assert_array_equal(again, dx)
    for name, parameter in bench.layer.params.items():
        np.testing.assert_allclose(parameter.diff, both[name] + 1 if name == learns else 1, rtol=1e-12)
        assert (one[name] is None) == (name != learns)


@pytest.mark.parametrize(
    "kind, options, shapes, text",
    [
        (DefinitionError, "kernel_size: 3", IMAGES, "num_output is missing: write num_output: 64, say"),
        (DefinitionError, "num_output: 0", IMAGES, "num_output: 0 must be at least 1"),
        (DefinitionError, "num_output: 8 kernel_size: 3 group: 0", IMAGES, "group: 0 must be at least 1"),
        (DefinitionError, "num_output: 8", IMAGES, "kernel_size is missing: write kernel_size: 3, say"),
        (DefinitionError, "num_output: 8 kernel_size: 0", IMAGES, "kernel_size: 0 must be at least 1"),
        (DefinitionError, "num_output: 8 kernel_size: 3 stride: 0", IMAGES, "stride: 0 must be at least 1"),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 3 stride_h: 2 stride_w: 0",
            IMAGES,
            "stride_w: 0 must be at least 1",
        ),
        (DefinitionError, "num_output: 8 kernel_size: 3 dilation: 0", IMAGES, "dilation: 0 must be at least 1"),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 3 kernel_h: 3 kernel_w: 3",
            IMAGES,
            "kernel_size and kernel_h are two spellings of one option: keep kernel_size, or kernel_h and kernel_w",
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 3 pad: 1 pad_w: 1",
            IMAGES,
            "pad and pad_w are two spellings of one option: keep pad, or pad_h and pad_w",
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 3 dilation: 1 hole_w: 2",
            IMAGES,
            "dilation and hole_w are two spellings of one option: keep dilation",
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_h: 3",
            IMAGES,
            "kernel_h is given without kernel_w: give both, or kernel_size",
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_h: 3 kernel_w: 3",
            [(2, 4, 5, 6, 7)],
            'kernel_h is for 2 spatial axes, but bottom "pool1" (2, 4, 5, 6, 7) has 3:'
            " write kernel_size, once for each axis",
        ),
        (
            DefinitionError,
            "num_output: 8 kernel_size: 3 stride: 1 stride: 2 stride: 3",
            IMAGES,
            'stride is given 3 times for the 2 spatial axes of bottom "pool1" (2, 4, 7, 6):'
            " give it once, or once for each axis",
        ),
        (
            ShapeError,
            "num_output: 9 kernel_size: 3 group: 3",
            IMAGES,
            'group: 3 must divide the 4 channels of bottom "pool1" (2, 4, 7, 6)',
        ),
        (ShapeError, "num_output: 6 kernel_size: 3 group: 4", IMAGES, "group: 4 must divide num_output: 6"),
        (
            ShapeError,
            "num_output: 6 kernel_size: 3",
            [(2, 0, 7, 6)],
            'bottom "pool1" (2, 0, 7, 6) has no channels on axis 1',
        ),
        (
            ShapeError,
            "num_output: 6 kernel_size: 3 axis: 4",
            IMAGES,
            'axis: 4 is no axis of bottom "pool1" (2, 4, 7, 6), which has 4 axes',
        ),
        (
            ShapeError,
            "num_output: 6 kernel_size: 4 dilation: 3 pad: 1",
            IMAGES,
            'a window of 10 is larger than the 9 that bottom "pool1" (2, 4, 7, 6) has with its padding:'
            " lower kernel_size or dilation, or raise pad",
        ),
    ],
)
def test_what_does_not_fit(kind, options, shapes, text):
    with pytest.raises(kind) as error:
        Bench(f'name: "conv2" type: "Convolution" bottom: "pool1" convolution_param {{ {options} }}', shapes)
    assert error.value.message == f'layer "conv2" (Convolution): {text}'


@pytest.mark.parametrize(
    "options, place",
    [
        ("num_output: 9\nkernel_size: 3\n group: 3", "<text>:5:2"),
        ("num_output: 8 kernel_size: 3\nstride: 1 stride: 2 stride: 3", "<text>:4:21"),
        ("kernel_size: 3", "<text>"),
    ],
)
def test_where_it_does_not_fit(options, place):
    with pytest.raises((DefinitionError, ShapeError)) as error:
        Bench(f'name: "conv2" type: "Convolution"\nconvolution_param {{\n{options} }}', IMAGES)
    assert str(error.value.place) == place


def test_shapes_that_change():
    definition = (
        'name: "c" type: "Convolution" bottom: "a" bottom: "b" convolution_param { num_output: 6 kernel_size: 3 }'
    )
    layer = Bench(f'{definition} top: "y" top: "z"', [(2, 4, 7, 6)] * 2).layer
    assert layer.top_shapes((3, 4, 5, 5), (3, 4, 5, 5)) == [(3, 6, 3, 3)] * 2
    for shapes, text in [
        (
            [(2, 4, 7, 6), (2, 4, 7, 5)],
            'bottom "b" (2, 4, 7, 5) must have the shape of bottom "a" (2, 4, 7, 6): they share the weights',
        ),
        (
            [(2, 3, 7, 6)] * 2,
            'bottom "a" (2, 3, 7, 6) must have 4 channels on axis 1 and 2 spatial axes, as when the weights were made',
        ),
        (
            [(2, 4, 7)] * 2,
            'bottom "a" (2, 4, 7) must have 4 channels on axis 1 and 2 spatial axes, as when the weights were made',
        ),
    ]:
        layer.bottom_shapes = tuple(shapes)
        with pytest.raises(ShapeError) as error:
            layer.top_shapes(*shapes)
        assert error.value.message == f'layer "c" (Convolution): {text}'


def test_one_top_for_each_bottom():
    definition = (
        'name: "c" type: "Convolution" bottom: "a" bottom: "b" top: "y"'
        " convolution_param { num_output: 6 kernel_size: 3 }"
    )
    with pytest.raises(ShapeError) as error:
        Bench(definition, [(2, 4, 7, 6)] * 2)
    assert error.value.message == 'layer "c" (Convolution): 1 tops for 2 bottoms: each bottom has a top of its own'
