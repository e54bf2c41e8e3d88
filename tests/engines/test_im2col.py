import numpy as np
import pytest

from layerforge import engines
from layerforge.device import cpu
from layerforge.engines import Geometry, Im2col, output_shape
from layerforge.errors import DefinitionError, KernelError
from layerforge.kernels import Kernels
from layerforge.native import _csrc


def geometry(batch, channels, num_output, spatial, kernel, stride=1, pad=0, dilation=1, group=1):
    axes = len(spatial)
    kernel, stride, pad, dilation = (
        value if isinstance(value, tuple) else (value,) * axes for value in (kernel, stride, pad, dilation)
    )
    output = output_shape(spatial, kernel, stride, pad, dilation)
    return Geometry(batch, channels, num_output, group, spatial, kernel, stride, pad, dilation, output)


def patches(x, tap, g):
    """What weight ``tap`` sees of x: (batch, channels, output...)."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in g.pad)])
    axes = zip(tap, g.dilation, g.output, g.stride, strict=True)
    return padded[(..., *(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in axes))]


def convolve(x, w, b, g):
    """The formula, one tap and one group at a time."""
    y = np.zeros(g.output_shape)
    channels, outputs = g.channels // g.group, g.num_output // g.group
    for tap in np.ndindex(*g.kernel):
        seen = patches(x, tap, g)
        for n in range(g.group):
            mine = slice(n * outputs, (n + 1) * outputs)
            part = seen[:, n * channels : (n + 1) * channels]
            y[:, mine] += np.einsum("nc...,mc->nm...", part, w[(mine, slice(None), *tap)])
    return y if b is None else y + b.reshape(-1, *(1,) * len(g.spatial))


CASES = {
    "LeNet's": geometry(3, 1, 20, (28, 28), 5),
    "padded": geometry(3, 4, 6, (9, 7), 3, pad=1),
    "padding beyond the kernel": geometry(2, 2, 3, (5, 4), 2, pad=3),
    "strided": geometry(2, 3, 8, (23, 24), 11, stride=4),
    "stride beyond the kernel": geometry(2, 3, 4, (12, 13), 2, stride=3, pad=1),
    "stride 2 and padding": geometry(5, 6, 4, (14, 14), 3, stride=2, pad=1),
    "dilated": geometry(2, 3, 4, (11, 12), 3, pad=2, dilation=2),
    "dilated, strided, grouped": geometry(2, 6, 4, (15, 16), 3, stride=2, pad=2, dilation=2, group=2),
    "grouped": geometry(4, 8, 12, (6, 6), 3, pad=1, group=4),
    "depthwise": geometry(2, 7, 7, (8, 8), 3, pad=1, group=7),
    "depthwise, long rows": geometry(2, 3, 3, (5, 40), 3, pad=1, group=3),
    "depthwise, strided, two outputs each": geometry(3, 5, 10, (13, 12), 3, stride=2, pad=1, group=5),
    "depthwise, strided by 3, dilated": geometry(2, 4, 4, (15, 17), 3, stride=3, pad=2, dilation=2, group=4),
    "1x1": geometry(3, 8, 7, (5, 6), 1),
    "1x1, strided": geometry(3, 8, 7, (7, 6), 1, stride=2),
    "1x1, many images in a tile": geometry(20, 8, 7, (3, 3), 1),
    "many images in a tile": geometry(20, 8, 7, (3, 3), 3, pad=1),
    "several tiles in an image": geometry(2, 3, 6, (60, 70), 3, pad=1),
    "several tiles in an image, strided": geometry(2, 3, 5, (80, 90), 5, stride=(2, 3), pad=2),
    "several panels, a rest of 3": geometry(3, 5, 50, (14, 13), 4),
    "wide rows, many outputs": geometry(2, 3, 70, (6, 150), 3, pad=1),
    "deep columns": geometry(2, 40, 33, (10, 9), 3, pad=1),
    "strided by 3, padded unevenly": geometry(2, 3, 20, (17, 19), (4, 5), stride=(2, 3), pad=(1, 4)),
    "one output position": geometry(3, 4, 5, (6, 6), 6),
    "no spatial axis": geometry(4, 6, 5, (), ()),
    "one spatial axis": geometry(3, 4, 5, (17,), 3, stride=2, pad=1),
    "three spatial axes": geometry(2, 3, 4, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 0, 1)),
    "four spatial axes": geometry(1, 2, 3, (3, 4, 3, 4), 2, pad=(1, 0, 0, 1), dilation=(1, 2, 1, 1)),
    "one image": geometry(1, 5, 7, (40, 30), 3, pad=1),
    "an empty batch": geometry(0, 3, 4, (5, 5), 3),
}


@pytest.fixture(params=[16, 8, 0], ids=["AVX-512", "AVX2", "BLAS"])
def lanes(request):
    """Vectors of at most so many floats; what the processor does not have is the next one that it has."""
    _csrc.limit_panels(request.param)
    yield request.param
    _csrc.limit_panels(16)


def arrays(g, dtype, seed=1):
    random = np.random.default_rng(seed)
    shapes = (g.input_shape, g.weight_shape, (g.num_output,), g.output_shape)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_convolution(threads, lanes, name, dtype):
    g = CASES[name]
    engine = Im2col()
    x, w, b, dy = arrays(g, dtype)
    tolerance = {"rtol": 0, "atol": (1e-6 if dtype == np.float32 else 1e-14) * 10 * np.prod(g.weight_shape)}
    scratch = np.full(engine.scratch(g), np.nan, dtype)

    for bias in (b, None):
        y = np.full(g.output_shape, np.nan, dtype)
        engine.forward(x, w, bias, y, g, scratch)
        np.testing.assert_allclose(y, convolve(x, w, bias, g), **tolerance)

    dx, dw, db = np.full(g.input_shape, np.nan, dtype), np.full(w.shape, 3, dtype), np.full(b.shape, 5, dtype)
    engine.backward_data(dy, w, dx, g, scratch)
    engine.backward_weights(x, dy, dw, db, g, scratch)
    expected_dx, expected_dw = transposed(x, w, dy, g)
    np.testing.assert_allclose(dx, expected_dx, **tolerance)
    tolerance["atol"] *= max(1, dy.size / g.num_output)
    np.testing.assert_allclose(dw, 3 + expected_dw, **tolerance)
    axes = (0, *range(2, dy.ndim))
    np.testing.assert_allclose(db, 5 + dy.sum(axis=axes, dtype=np.float64), **tolerance)
    engine.backward_weights(x, dy, dw, None, g, scratch)
    np.testing.assert_allclose(dw, 3 + 2 * expected_dw, **tolerance)


def transposed(x, w, dy, g):
    """The gradients of sum(dy * convolve(x, w)), one tap and one group at a time."""
    padded = np.zeros((g.batch, g.channels, *(n + 2 * p for n, p in zip(g.spatial, g.pad, strict=True))))
    dw = np.zeros(g.weight_shape)
    channels, outputs = g.channels // g.group, g.num_output // g.group
    for tap in np.ndindex(*g.kernel):
        axes = zip(tap, g.dilation, g.output, g.stride, strict=True)
        where = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in axes)
        seen = patches(x.astype(np.float64), tap, g)
        for n in range(g.group):
            mine, theirs = slice(n * channels, (n + 1) * channels), slice(n * outputs, (n + 1) * outputs)
            weights = w[(theirs, slice(None), *tap)].astype(np.float64)
            padded[(slice(None), mine, *where)] += np.einsum("nm...,mc->nc...", dy[:, theirs], weights)
            axes = (0, *range(2, seen.ndim))
            dw[(theirs, slice(None), *tap)] = np.tensordot(dy[:, theirs], seen[:, mine], (axes, axes))
    inside = tuple(slice(p, p + n) for n, p in zip(g.spatial, g.pad, strict=True))
    return padded[(..., *inside)], dw


def test_bits_repeat(threads, lanes):
    engine = Im2col()
    for name in ("several tiles in an image", "many images in a tile", "grouped"):
        g = CASES[name]
        x, w, b, dy = arrays(g, np.float32)
        seen = set()
        for _ in range(5):
            scratch = cpu.empty(engine.scratch(g))
            y, dx = cpu.empty(g.output_shape), cpu.empty(g.input_shape)
            dw, db = cpu.zeros(w.shape), cpu.zeros(b.shape)
            engine.forward(x, w, b, y, g, scratch)
            engine.backward_data(dy, w, dx, g, scratch)
            engine.backward_weights(x, dy, dw, db, g, scratch)
            seen.add(b"".join(array.tobytes() for array in (y, dx, dw, db)))
        assert len(seen) == 1


def test_partial_gradients_are_bounded(threads, lanes):
    """With weights of 64 MiB, the scratch memory does not grow by as much for every thread."""
    g = geometry(8, 4096, 4096, (14, 14), 1)
    assert Im2col().scratch(g) < 2 * np.prod(g.weight_shape) + 8_000_000


G = CASES["padded"]
X, W, B, DY = arrays(G, np.float32)
E = "convolution: "


@pytest.mark.parametrize("change, message", [
    ({"x": X.astype(np.float64)}, "argument x: expected a C-contiguous float32 array of shape (3, 4, 9, 7), "
                                   "received float64 array of shape (3, 4, 9, 7)"),
    ({"w": W[:5]}, "argument w: expected a C-contiguous float32 array of shape (6, 4, 3, 3), "
                    "received float32 array of shape (5, 4, 3, 3)"),
    ({"b": B[::-1]}, "argument b: expected a C-contiguous float32 array of shape (6,), "
                      "received float32 array, not C-contiguous, of shape (6,)"),
    ({"scratch": np.zeros(1 << 20, np.int32)},
     "scratch must be a flat float32 or float64 array, not int32 array of shape (1048576,)"),
])  # fmt: skip
def test_wrong_arrays(change, message):
    arguments = {"x": X, "w": W, "b": B, "y": DY.copy(), "scratch": np.zeros(1 << 20, np.float32)} | change
    with pytest.raises(KernelError) as caught:
        Im2col().forward(**arguments, g=G)
    assert str(caught.value) == "convolution: " + message


def test_scratch_that_is_too_small(set_threads):
    engine = Im2col()
    set_threads(2)
    least = engine.scratch(G)
    with pytest.raises(KernelError) as caught:
        engine.forward(X, W, B, DY.copy(), G, np.zeros(least - 1, np.float32))
    assert str(caught.value) == (
        f"convolution: scratch must have {least} elements with 2 threads, not {least - 1}; "
        "set the number of threads before the net is made"
    )


@pytest.mark.parametrize("name", CASES)
def test_caffe_means_im2col(name):
    for dtype in (np.float32, np.float64):
        assert engines.convolution("cpu", "CAFFE", CASES[name], dtype).name == "CAFFE"


def test_unknown_engine():
    with pytest.raises(DefinitionError) as caught:
        engines.convolution("cpu", "CUDN", G)
    message = 'no engine "CUDN"; there are: DEFAULT, CAFFE, CUDNN, MKL2017, MKLDNN. Did you mean "CUDNN"?'
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].batch])
def test_columns(threads, name, dtype):
    """The im2col and col2im kernels: portable and hand-tuned alike, and against the formula."""
    g, K = CASES[name], Kernels("im2col.h")
    x = arrays(g, dtype)[0]
    taps = list(np.ndindex(*g.kernel))
    expected = np.stack([patches(x, tap, g) for tap in taps], axis=2)
    dcolumns = np.random.default_rng(2).standard_normal(expected.shape).astype(dtype)
    gradients = []
    for kernel in (K, K.portable):
        columns, dx = np.full(expected.shape, np.nan, dtype), np.full(x.shape, np.nan, dtype)
        kernel.im2col(x, columns, g.shape, count=g.batch * g.channels * int(np.prod(g.output)))
        np.testing.assert_array_equal(columns, expected)
        kernel.col2im(dcolumns, dx, g.shape)
        gradients.append(dx)
    np.testing.assert_array_equal(*gradients)
    np.testing.assert_allclose((gradients[0] * x).sum(), (dcolumns * expected).sum(), rtol=1e-4)
