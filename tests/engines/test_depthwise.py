"""Depthwise convolution in blocks of 16 channels, with what is before and behind it, against im2col and formulas."""

import numpy as np
import pytest

from layerforge import _csrc
from layerforge.device import cpu
from layerforge.engines import Depthwise, Geometry, Im2col, OneDnn, convolution, output_shape
from layerforge.errors import KernelError
from layerforge.fusion import Behind, Pending

pytestmark = pytest.mark.skipif(not hasattr(_csrc, "depthwise_forward"), reason="its kernels are for AVX-512")

BLOCK = (16, 16)


def geometry(batch, channels, spatial, kernel=(3, 3), stride=(1, 1), pad=(1, 1), dilation=(1, 1)):
    output = output_shape(spatial, kernel, stride, pad, dilation)
    return Geometry(batch, channels, channels, channels, spatial, kernel, stride, pad, dilation, output)


CASES = {
    "3x3": geometry(2, 32, (9, 11)),
    "strided": geometry(3, 16, (12, 15), stride=(2, 2)),
    "a window that ends outside": geometry(2, 16, (12, 10), stride=(2, 2), pad=(0, 0)),
    "large windows": geometry(1, 16, (9, 8), (7, 5), pad=(3, 2)),
    "dilated": geometry(2, 16, (13, 12), dilation=(2, 3), pad=(2, 3)),
    "strides beyond the window": geometry(2, 16, (11, 13), (2, 1), (3, 4), (0, 0)),
    "much padding": geometry(1, 48, (4, 5), (3, 3), (1, 2), (2, 2)),
    "four positions": geometry(4, 32, (2, 2)),
    "a wide row": geometry(1, 16, (2, 37)),
}


def in_blocks(array):
    n, c, *_ = array.shape
    out = cpu.zeros(array.shape, np.float32)
    out.reshape(n, c // 16, -1, 16)[...] = array.reshape(n, c // 16, 16, -1).swapaxes(2, 3)
    return out


def plain(array):
    n, c, *_ = array.shape
    return array.reshape(n, c // 16, -1, 16).swapaxes(2, 3).reshape(array.shape)


def problem(g, slope, seed=0):
    """Arrays of a convolution, and of what normalises its x; with slope None, nothing does."""
    rng = np.random.default_rng(seed)
    x, w, b, dy = (
        rng.standard_normal(s, np.float32) for s in (g.input_shape, g.weight_shape, g.channels, g.output_shape)
    )
    if slope is None:
        return x, w, b, dy, None, x
    mean, scale, weight, bias = rng.standard_normal((4, g.channels), np.float32)
    values, sums = in_blocks(x), np.empty((2, g.batch * g.channels), np.float32)
    before = Pending(values, mean, scale, weight, bias, (g.channels, x[0, 0].size), slope, sums)
    mean, scale, weight, bias = (array[:, None, None] for array in (mean, scale, weight, bias))
    normalised = (x - mean) * scale * weight + bias
    return x, w, b, dy, before, np.where(normalised > 0, normalised, np.float32(slope) * normalised)


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(initial=1e-3))


@pytest.mark.parametrize("slope", [None, 0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_formulas(threads, name, slope):
    g = CASES[name]
    x, w, b, dy, before, read = problem(g, slope)
    columns, engine = Im2col(), Depthwise(BLOCK)
    assert engine.supports(g, np.float32)
    scratch = cpu.zeros((max(columns.scratch(g), engine.scratch(g)),), np.float32)
    y, dx, dw, db = (np.zeros(s, np.float32) for s in (g.output_shape, g.input_shape, g.weight_shape, g.channels))
    columns.forward(read, w, b, y, g, scratch)
    columns.backward_data(dy, w, dx, g, scratch)
    columns.backward_weights(read, dy, dw, db, g, scratch)

    scratch[...] = np.nan
    own_y, moments = cpu.zeros(g.output_shape, np.float32), np.empty((2, g.batch * g.channels), np.float32)
    engine.forward_between(in_blocks(x), w, b, own_y, g, scratch, before, moments)
    close(plain(own_y), y)
    rows = y.reshape(g.batch * g.channels, -1).astype(np.float64)
    close(moments[0], rows.mean(1))
    close(moments[1], ((rows - rows.mean(1, keepdims=True)) ** 2).sum(1))

    own_dx = cpu.zeros(g.input_shape, np.float32)
    own_dw, own_db = np.ones_like(dw), np.ones_like(db)  # which are added to
    engine.backward(in_blocks(x), in_blocks(dy), w, own_dx, own_dw, own_db, g, scratch, before, before and before.sums)
    close(plain(own_dx), dx)
    close(own_dw - 1, dw)
    close(own_db - 1, db)
    if before is not None:
        dz = np.where(read > 0, dx, np.float32(slope) * dx).astype(np.float64)
        close(before.sums[0], dz.sum((2, 3)).reshape(-1))
        close(before.sums[1], (dz * (x - before.mean[:, None, None])).sum((2, 3)).reshape(-1))


def test_gradients_that_nobody_wants():
    g = CASES["3x3"]
    x, w, _, dy, _, _ = problem(g, None)
    engine = Depthwise(BLOCK)
    scratch = cpu.zeros((engine.scratch(g),), np.float32)
    dx, dw = np.zeros(g.input_shape, np.float32), np.zeros(g.weight_shape, np.float32)
    engine.backward(in_blocks(x), in_blocks(dy), w, dx, None, None, g, scratch)
    engine.backward(in_blocks(x), in_blocks(dy), w, None, dw, None, g, scratch)
    engine.backward_data(in_blocks(dy), w, alone := np.zeros_like(dx), g, scratch)
    engine.backward_weights(in_blocks(x), in_blocks(dy), weights := np.zeros_like(dw), None, g, scratch)
    expected = [np.zeros_like(dx), np.zeros_like(dw)]
    engine.backward(in_blocks(x), in_blocks(dy), w, *expected, None, g, scratch)
    assert dx.any() and dw.any()
    assert (dx == expected[0]).all() and (dw == expected[1]).all()
    assert (alone == expected[0]).all() and (weights == expected[1]).all()


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_a_gradient_that_was_left_to_it(threads, slope):
    g = CASES["strided"]
    x, w, _, dy, _, _ = problem(g, None)
    rng = np.random.default_rng(5)
    y, (mean, scale, weight, bias, total, dot) = (
        rng.standard_normal(g.output_shape, np.float32),
        rng.standard_normal((6, g.channels), np.float32),
    )
    number = g.batch * y[0, 0].size
    m, s, v, o, sums, dots = (array[:, None, None] for array in (mean, scale, weight, bias, total, dot))
    dz = np.where((y - m) * s * v + o > 0, dy, np.float32(slope) * dy)
    computed = (dz - sums / number - (y - m) * s * s * dots / number) * s * v
    engine = Depthwise(BLOCK)
    scratch = cpu.zeros((engine.scratch(g),), np.float32)
    read = Pending(in_blocks(y), mean, scale, weight, bias, (g.channels, y[0, 0].size), slope)
    behind = Behind(read, None, total, dot, number)
    found, expected = (
        [np.zeros(shape, np.float32) for shape in (g.input_shape, g.weight_shape, g.channels)] for _ in "ab"
    )
    engine.backward(in_blocks(x), in_blocks(dy), w, *found, g, scratch, behind=behind)
    engine.backward(in_blocks(x), in_blocks(computed), w, *expected, g, scratch)
    for one, other in zip(found, expected, strict=True):
        close(one, other)


def test_large_arrays_past_the_caches():
    g = geometry(2, 64, (188, 180))
    x, w, b, _, before, read = problem(g, 0.0)
    engine = Depthwise(BLOCK)
    y, scratch = cpu.zeros(g.output_shape, np.float32), cpu.zeros((engine.scratch(g),), np.float32)
    assert y.nbytes >= 1 << 24
    engine.forward_between(in_blocks(x), w, b, y, g, scratch, before)
    padded = np.pad(read, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = [padded[:, :, i : i + 188, j : j + 180] * w[:, 0, i, j, None, None] for i in range(3) for j in range(3)]
    close(plain(y), sum(windows) + b[:, None, None])


def test_the_same_bits_with_any_number_of_threads(set_threads):
    g = geometry(3, 48, (14, 14))
    x, w, b, dy, before, _ = problem(g, 0.0)
    engine, seen = Depthwise(BLOCK), set()
    for number in (1, 2, 3, 2, 1):
        set_threads(number)
        scratch = cpu.zeros((engine.scratch(g),), np.float32)
        shapes = (g.output_shape, (2, 3 * 48), g.input_shape, g.weight_shape, b.shape)
        y, moments, dx, dw, db = (np.zeros(shape, np.float32) for shape in shapes)
        engine.forward_between(in_blocks(x), w, b, y, g, scratch, before, moments)
        engine.backward(in_blocks(x), in_blocks(dy), w, dx, dw, db, g, scratch, before, before.sums)
        seen.add(b"".join(array.tobytes() for array in (y, moments, dx, dw, db, before.sums)))
    assert len(seen) == 1


def test_what_is_not_a_number_stays():
    g = CASES["3x3"]
    x, w, b, _, before, _ = problem(g, 0.0)
    x[1, 20, 4, 5] = np.nan
    engine, y = Depthwise(BLOCK), np.zeros(g.output_shape, np.float32)
    values = in_blocks(x)
    engine.forward_between(values, w, b, y, g, cpu.zeros((engine.scratch(g),), np.float32), before)
    assert (np.isnan(plain(y)).sum(), np.isnan(plain(y)[1, 20, 3:6, 4:7]).sum()) == (9, 9)


@pytest.mark.parametrize(
    "g, block",
    [
        (CASES["3x3"], (1, 1)),
        (CASES["3x3"], (16, 1)),
        (geometry(1, 16, (20, 20), (8, 7)), BLOCK),
        (geometry(1, 16, (20, 20), stride=(5, 5)), BLOCK),
        (Geometry(2, 32, 64, 32, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1), (9, 11)), BLOCK),
        (Geometry(2, 32, 32, 1, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1), (9, 11)), BLOCK),
        (Geometry(2, 32, 32, 32, (9,), (3,), (1,), (1,), (1,), (9,)), BLOCK),
    ],
)
def test_leaves_to_others(g, block):
    assert not Depthwise(block).supports(g, np.float32)
    assert not isinstance(convolution("cpu", "DEFAULT", g, np.float32, block), Depthwise)


def test_is_chosen():
    assert convolution("cpu", "DEFAULT", CASES["3x3"], np.float32, BLOCK).name == "Depthwise"
    assert convolution("cpu", "CAFFE", CASES["3x3"], np.float32).name == "CAFFE"
    assert isinstance(convolution("cpu", "DEFAULT", CASES["3x3"], np.float32), OneDnn)


def test_wrong_arrays():
    g = CASES["3x3"]
    x, w, b, dy, _, _ = problem(g, None)
    engine = Depthwise(BLOCK)
    scratch = cpu.zeros((engine.scratch(g),), np.float32)
    message = "convolution: argument x: expected a C-contiguous float32 array of shape (2, 32, 9, 11), received "
    with pytest.raises(KernelError) as error:
        engine.forward_between(x[:1], w, b, dy, g, scratch)
    assert str(error.value) == message + "float32 array of shape (1, 32, 9, 11)"
    with pytest.raises(KernelError) as error:
        engine.backward(x.astype(np.float64), dy, w, x, None, None, g, scratch)
    assert str(error.value) == message + "float64 array of shape (2, 32, 9, 11)"
