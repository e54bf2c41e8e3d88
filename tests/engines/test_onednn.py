import logging
import platform
import subprocess
import sys

import numpy as np
import pytest

import layerforge as lf
from layerforge import _csrc, engines
from layerforge.device import cpu
from layerforge.engines import Geometry, Im2col, OneDnn, onednn, output_shape
from layerforge.errors import KernelError

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="oneDNN's wheel is for Linux on x86-64"
)


def geometry(batch, channels, num_output, spatial, kernel, stride=1, pad=0, dilation=1, group=1):
    axes = len(spatial)
    kernel, stride, pad, dilation = (
        value if isinstance(value, tuple) else (value,) * axes for value in (kernel, stride, pad, dilation)
    )
    output = output_shape(spatial, kernel, stride, pad, dilation)
    return Geometry(batch, channels, num_output, group, spatial, kernel, stride, pad, dilation, output)


CASES = {
    "AlexNet's conv1": geometry(2, 3, 96, (63, 47), 11, stride=4),
    "AlexNet's conv2": geometry(2, 96, 64, (13, 9), 5, pad=2, group=2),
    "3x3": geometry(3, 16, 48, (9, 11), 3, pad=1),
    "one channel": geometry(2, 1, 16, (12, 12), 5),
    "blocks of 8": geometry(2, 24, 40, (7, 8), 3, pad=1),
    "strided": geometry(3, 32, 16, (14, 15), 3, stride=2, pad=1),
    "stride beyond what is left": geometry(2, 16, 16, (12, 13), 3, stride=(4, 3)),
    "dilated": geometry(2, 16, 16, (15, 14), 3, pad=2, dilation=2),
    "depthwise": geometry(2, 32, 32, (10, 9), 3, pad=1, group=32),
    "depthwise, strided": geometry(2, 16, 16, (11, 9), 3, stride=2, pad=1, group=16),
    "one image": geometry(1, 32, 32, (20, 20), 3, pad=1),
    "one spatial axis": geometry(3, 16, 16, (17,), 3, stride=2, pad=1),
    "three spatial axes": geometry(2, 16, 16, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 0, 1)),
}

REFUSED = {
    "1x1, which is one product as it is": geometry(2, 16, 16, (8, 8), 1),
    "few outputs": geometry(2, 16, 10, (8, 8), 3),
    "channels that fill no block": geometry(2, 20, 16, (8, 8), 3),
    "groups of few channels": geometry(2, 32, 32, (8, 8), 3, group=8),
    "no spatial axis": geometry(4, 16, 16, (), ()),
    "four spatial axes": geometry(1, 16, 16, (3, 4, 3, 4), 2),
    "an empty batch": geometry(0, 16, 16, (5, 5), 3),
}


def results(engine, g, bias=True, seed=1):
    """y, dx, dw and db, the last two added to what was there."""
    random = np.random.default_rng(seed)
    x, w, b, dy = (
        random.standard_normal(shape).astype(np.float32)
        for shape in (g.input_shape, g.weight_shape, (g.num_output,), g.output_shape)
    )
    y, dx = np.full(g.output_shape, np.nan, np.float32), np.full(g.input_shape, np.nan, np.float32)
    dw, db = np.full(w.shape, 3, np.float32), np.full(b.shape, 5, np.float32)
    scratch = np.full(engine.scratch(g) + 1, np.nan, np.float32)[1:]  # begins at no boundary
    engine.forward(x, w, b if bias else None, y, g, scratch)
    engine.backward_data(dy, w, dx, g, scratch)
    engine.backward_weights(x, dy, dw, db if bias else None, g, scratch)
    return y, dx, dw, db


def test_is_there():
    """The default where its wheel exists: built in, installed, and chosen."""
    assert onednn.available()
    assert engines.convolution("cpu", "DEFAULT", CASES["strided"]).name == "MKLDNN"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_computes_what_im2col_does(threads, name, bias):
    g = CASES[name]
    assert OneDnn().supports(g, np.float32)
    for found, expected in zip(results(OneDnn(), g, bias), results(Im2col(), g, bias), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_formula():
    """One output position of every channel, and the whole bias gradient, by hand."""
    g = geometry(2, 8, 8, (3, 3), 3)
    random = np.random.default_rng(3)
    x, w = random.standard_normal(g.input_shape), random.standard_normal(g.weight_shape)
    b, dy = random.standard_normal(8), random.standard_normal(g.output_shape)
    single = [array.astype(np.float32) for array in (x, w, b, dy)]
    y, dx = np.empty(g.output_shape, np.float32), np.empty(g.input_shape, np.float32)
    dw, db = np.zeros(g.weight_shape, np.float32), np.zeros(8, np.float32)
    engine = OneDnn()
    scratch = cpu.empty(engine.scratch(g))
    engine.forward(*single[:3], y, g, scratch)
    engine.backward_data(single[3], single[1], dx, g, scratch)
    engine.backward_weights(single[0], single[3], dw, db, g, scratch)
    np.testing.assert_allclose(y[:, :, 0, 0], np.einsum("nchw,mchw->nm", x, w) + b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, np.einsum("nm,mchw->nchw", dy[:, :, 0, 0], w), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dw, np.einsum("nm,nchw->mchw", dy[:, :, 0, 0], x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", ["3x3", "blocks of 8", "dilated", "AlexNet's conv2"])
def test_weights_are_kept_until_they_change(threads, name, affine):
    g, engine = CASES[name], OneDnn()
    assert engine.supports(g, np.float32)
    random = np.random.default_rng(4)
    x, w, b = (random.standard_normal(s).astype(np.float32) for s in (g.input_shape, g.weight_shape, (g.num_output,)))
    scratch, kept = cpu.empty(engine.scratch(g)), cpu.zeros(engine.kept(g) + 1)[1:]  # begins at no boundary

    def forward(*kept):
        y = np.full(g.output_shape, np.nan, np.float32)
        if affine:
            engine.forward_and_on(x, w, b, b, y, g, scratch, *kept, rectify=True)
        else:
            engine.forward(x, w, b, y, g, scratch, *kept)
        return y

    assert kept.size > w.size
    for change in (lambda: None, lambda: np.negative(w, out=w), lambda: w.reshape(-1)[-1:].__iadd__(1), w.sort):
        change()
        for _ in range(2):
            np.testing.assert_allclose(forward(kept), forward(), *(1e-5, 1e-4) if affine else (0, 0))
    head = np.searchsorted(np.cumsum(kept != 0), 3) + 1  # a number below 2^32, and one of two words
    kept[head:] = 0  # nobody looks for changes there, so these are the weights that are used
    assert not np.array_equal(forward(kept), forward())


def test_too_little_room_to_keep_weights():
    g, engine = CASES["3x3"], OneDnn()
    assert engine.supports(g, np.float32)
    x, w, y = (np.ones(s, np.float32) for s in (g.input_shape, g.weight_shape, g.output_shape))
    kept = np.zeros(engine.kept(g) - 1, np.float32)
    engine.forward(x, w, None, y, g, cpu.empty(engine.scratch(g)), kept)
    assert not kept.any()
    assert y[0, 0, 3, 3] == 16 * 9


def test_a_net_sees_that_weights_have_changed():
    net = lf.Net(lf.schema.parse(NET.format(""), "NetParameter"), lf.TEST, seed=1)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal((2, 3, 12, 12))
    weights = net.params["conv2"][0].data
    before = net.forward()["conv2"].copy()
    np.testing.assert_array_equal(net.forward()["conv2"], before)
    weights *= -2
    np.testing.assert_allclose(net.forward()["conv2"], -2 * before, rtol=1e-5, atol=1e-6)
    assert net.layer_dict["conv2"].state["weights"].any()


def test_bits_repeat(threads):
    for name in ("3x3", "AlexNet's conv1", "blocks of 8"):
        seen = {b"".join(array.tobytes() for array in results(OneDnn(), CASES[name])) for _ in range(5)}
        assert len(seen) == 1


@pytest.mark.parametrize("written", engines.NAMES)
def test_names(written):
    """CAFFE is im2col; what else may be written is the fast engine of the device."""
    expected = "CAFFE" if written == "CAFFE" else "MKLDNN"
    assert engines.convolution("cpu", written, CASES["strided"]).name == expected


@pytest.mark.parametrize("name", REFUSED)
def test_leaves_to_im2col(name):
    assert engines.convolution("cpu", "MKLDNN", REFUSED[name]).name == "CAFFE"


def test_leaves_float64_to_im2col():
    assert engines.convolution("cpu", "MKLDNN", CASES["3x3"], np.float64).name == "CAFFE"


def test_is_compiled_code():
    """Never oneDNN's reference loops, which are a thousand times slower."""
    for g in CASES.values():
        made = _csrc.OnednnConvolution(g.numbers, 1, 1, True, 1, False, False, 0, False, False)
        assert not [name for name in made.implementations if name.startswith("ref")]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rectify", [True, False])
def test_forward_and_on(name, rectify, threads):
    """What follows is computed with it: a factor and a shift for each channel, and a rectifier."""
    g, rng = CASES[name], np.random.default_rng(5)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (g.input_shape, g.weight_shape))
    factor, shift = rng.standard_normal((2, g.num_output)).astype(np.float32)
    engine, y, expected = OneDnn(), *np.empty((2, *g.output_shape), np.float32)
    assert engine.follows(g)
    scratch = np.empty(engine.scratch(g), np.float32)
    kept = np.zeros(engine.kept(g), np.float32)
    for room in (None, kept, kept):
        engine.forward_and_on(x, w, factor, shift, y, g, scratch, room, rectify=rectify)
        engine.forward(x, w, None, expected, g, scratch)
        each = (-1, *[1] * len(g.output))
        values = expected * factor.reshape(each) + shift.reshape(each)
        values = np.maximum(values, 0) if rectify else values
        np.testing.assert_allclose(y, values, rtol=1e-5, atol=1e-5 * np.abs(values).max())
        factor[0] += 1  # is seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_rectifies(name, bias, threads):
    g, rng = CASES[name], np.random.default_rng(5)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (g.input_shape, g.weight_shape))
    b = rng.standard_normal(g.num_output).astype(np.float32) if bias else None
    engine, y, alone = OneDnn(), *np.empty((2, *g.output_shape), np.float32)
    assert engine.rectifies(g, bias)
    scratch = np.empty(engine.scratch(g), np.float32)
    for what in (0, np.nan, np.inf):
        x[0, 0].reshape(-1)[-1] += what
        engine.forward(x, w, b, alone, g, scratch)
        engine.forward(x, w, b, y, g, scratch, rectify=True)
        below = np.isneginf(alone)
        assert np.isnan(y[below]).all()  # what oneDNN makes of it
        np.testing.assert_array_equal(y[~below], np.maximum(alone, 0)[~below])  # NaN is NaN there


IN_BLOCKS = {
    "3x3": geometry(3, 32, 48, (9, 11), 3, pad=1),
    "many channels, which are turned": geometry(2, 192, 208, (5, 6), 3, pad=1),
    "many channels, strided": geometry(2, 208, 192, (7, 6), 3, stride=2, pad=1),
    "many channels in groups": geometry(1, 384, 416, (4, 5), 3, pad=1, group=2),
    "a large plane of single taps": geometry(2, 32, 64, (48, 49), 1),
    "a large plane of single taps, strided": geometry(1, 32, 16, (90, 91), 1, stride=2),
    "a small plane of single taps": geometry(2, 32, 64, (9, 9), 1),
    "one spatial axis": geometry(3, 192, 192, (17,), 3, pad=1),
    "three spatial axes": geometry(1, 192, 192, (3, 4, 5), 3, pad=1),
}


def in_order(array, block):
    """In blocks of so many channels, and back."""
    return np.moveaxis(array.reshape(len(array), -1, block, *array.shape[2:]), 2, -1).copy().reshape(array.shape)


def from_order(array, block):
    shape = array.shape
    lies = array.reshape(shape[0], shape[1] // block, *shape[2:], block)
    return np.moveaxis(lies, -1, 2).reshape(shape)


@pytest.mark.skipif(engines.block("cpu", np.float32) != 16, reason="blocks of 16 need vectors of 16")
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_arrays_in_blocks(name, whole, threads):
    g, rng = IN_BLOCKS[name], np.random.default_rng(8)
    block = (g.channels, g.num_output) if whole else (16, 16)
    engine, columns = OneDnn(block), Im2col()
    assert engine.supports(g, np.float32)
    assert onednn.gains_by_turning(g, block) == (not whole and ("many" in name or "axis" in name or "axes" in name))
    assert onednn.gains_by_second(g, block) == (not whole and name == "a large plane of single taps")
    x, w, dy, b = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (g.input_shape, g.weight_shape, g.output_shape, (g.num_output,))
    )
    found = []
    for by in (columns, engine):
        into, back = ((lambda a, n: a.copy()),) * 2 if by is columns else (in_order, from_order)
        scratch = np.full(by.scratch(g), np.nan, np.float32)
        y, y_on, dx = (np.full(shape, np.nan, np.float32) for shape in (g.output_shape, g.output_shape, g.input_shape))
        dw, db = np.ones_like(w), np.ones_like(b)
        by.forward(into(x, block[0]), w, b, y, g, scratch)
        if by is columns:
            y_on = np.maximum(y, 0)
        else:
            assert by.follows(g)
            by.forward_and_on(into(x, block[0]), w, np.ones_like(b), b, y_on, g, scratch, rectify=True)
        by.backward_data(into(dy, block[1]), w, dx, g, scratch)
        by.backward_weights(into(x, block[0]), into(dy, block[1]), dw, db, g, scratch)
        found.append((back(y, block[1]), back(y_on, block[1]), back(dx, block[0]), dw, db))
    for expected, values in zip(*found, strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("keep", [False, True])
def test_adds_a_term(keep, threads):
    block = engines.block("cpu", np.float32)
    g, engine, random = geometry(2, 32, 48, (9, 7), 3, pad=1), OneDnn((block, block)), np.random.default_rng(6)
    assert engine.adds(g) and not OneDnn().adds(g)
    x, w, term, factor, shift = (
        random.standard_normal(shape).astype(np.float32)
        for shape in (g.input_shape, g.weight_shape, g.output_shape, (g.num_output,), (g.num_output,))
    )
    y, expected = np.empty((2, *g.output_shape), np.float32)
    scratch, kept = np.empty(engine.scratch(g), np.float32), np.zeros(engine.kept(g), np.float32)
    given = (g, scratch, kept) if keep else (g, scratch)
    engine.forward_and_on(x, w, factor, shift, y, *given, rectify=True, term=term)
    engine.forward_and_on(x, w, factor, shift, expected, *given, rectify=False)
    np.testing.assert_allclose(y, np.maximum(expected + term, 0), rtol=1e-5, atol=1e-4)


ADDED = {
    "3x3": geometry(2, 32, 48, (9, 7), 3, pad=1),
    "single taps, many to add up": geometry(2, 512, 64, (7, 9), 1),
    "single taps on a large plane": geometry(4, 16, 128, (48, 49), 1),
}


@pytest.mark.skipif(engines.block("cpu", np.float32) == 1, reason="only blobs in blocks have terms added")
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("name", ADDED)
def test_adds_a_term_that_lies_in_y(name, rectify, whole, threads):
    g, block, random = ADDED[name], engines.block("cpu", np.float32), np.random.default_rng(6)
    order = (g.channels, g.num_output) if whole else (block, block)
    engine = OneDnn(order)
    assert engine.adds_in_place(g) and engine.adds(g)
    assert onednn.gains_by_second(g, order, 2) == (not whole and "large" in name and block == 16)
    x, w, term, factor, shift = (
        random.standard_normal(shape).astype(np.float32)
        for shape in (g.input_shape, g.weight_shape, g.output_shape, (g.num_output,), (g.num_output,))
    )
    scratch, kept = np.empty(engine.scratch(g), np.float32), np.zeros(engine.kept(g), np.float32)
    y, expected = term.copy(), np.full(g.output_shape, np.nan, np.float32)
    again = engine.forward_and_on(x, w, factor, shift, y, g, scratch, kept, rectify=rectify, term=y)
    engine.forward_and_on(x, w, factor, shift, expected, g, scratch, kept, rectify=rectify, term=term)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    y[...] = term
    engine.forward_and_on(x, w, factor, shift, y, g, scratch, kept, rectify=rectify, term=y)
    y[...] = term
    again()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("change, message", [
    ({"x": np.zeros((3, 16, 9, 11))}, "argument x: expected a C-contiguous float32 array of shape (3, 16, 9, 11), "
                                       "received float64 array of shape (3, 16, 9, 11)"),
    ({"y": np.zeros((3, 48, 9, 11), np.float32)[:, ::-1]},
     "argument y: expected a C-contiguous float32 array of shape (3, 48, 9, 11), "
     "received float32 array, not C-contiguous, of shape (3, 48, 9, 11)"),
    ({"scratch": np.zeros(1 << 20)}, "scratch must be a flat float32 array, not float64 array of shape (1048576,)"),
])  # fmt: skip
def test_wrong_arrays(change, message):
    g = CASES["3x3"]
    arrays = {"x": g.input_shape, "w": g.weight_shape, "b": (48,), "y": g.output_shape, "scratch": (1 << 20,)}
    arguments = {name: np.zeros(shape, np.float32) for name, shape in arrays.items()} | change
    with pytest.raises(KernelError) as caught:
        OneDnn().forward(**arguments, g=g)
    assert str(caught.value) == "convolution: " + message


@pytest.fixture
def elsewhere(monkeypatch):
    """As on a machine where the library has not been looked for yet."""
    onednn.available.cache_clear()
    engines.convolution.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    onednn.available.cache_clear()
    engines.convolution.cache_clear()


def test_without_the_wheel(elsewhere, caplog):
    elsewhere.setattr(onednn, "PACKAGE", "onednn-for-nobody")
    with caplog.at_level(logging.INFO, "layerforge.engines"):
        assert engines.convolution("cpu", "DEFAULT", CASES["strided"]).name == "CAFFE"
        assert engines.convolution("cpu", "DEFAULT", CASES["dilated"]).name == "CAFFE"
    assert caplog.messages == [
        "oneDNN is not installed (`pip install onednn-for-nobody`): convolutions are computed by im2col"
    ]


def test_without_the_headers(elsewhere):
    """A build that found no headers has no engine of that name."""
    elsewhere.delattr(_csrc, "onednn_load")
    assert engines.convolution("cpu", "DEFAULT", CASES["strided"]).name == "CAFFE"


def test_asked_for_scratch_without_the_wheel(elsewhere):
    elsewhere.setattr(onednn, "PACKAGE", "onednn-for-nobody")
    onednn._made.cache_clear()
    with pytest.raises(KernelError) as caught:
        OneDnn().scratch(CASES["3x3"])
    assert str(caught.value) == (
        "convolution: oneDNN cannot be used: `pip install onednn-for-nobody`, or write engine: CAFFE"
    )


def test_asked_before_it_is_open():
    """An engine opens the library when it is first asked for anything; the functions behind it refuse."""
    code = (
        "import numpy as np\n"
        "from layerforge.engines import Geometry, OneDnn\n"
        "from layerforge.native import _csrc\n"
        "one = np.ones((1, 1), np.float32)\n"
        "try:\n    _csrc.onednn_gemm(one, one, one, False, False, 0)\n"
        "except RuntimeError as error:\n    print(error)\n"
        "g = Geometry(1, 16, 16, 1, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), (9, 9))\n"
        "print(OneDnn((16, 16)).scratch(g) > 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "oneDNN is not open: ask engines.onednn.available() first\nTrue\n"


def test_a_library_that_does_not_open(tmp_path):
    path = tmp_path / "libdnnl.so.3"
    path.write_bytes(b"no library")
    code = (
        "import logging, pathlib; logging.basicConfig(format='%(message)s')\n"
        "from layerforge.engines import onednn\n"
        f"onednn.find = lambda: pathlib.Path({str(path)!r})\n"
        "print(onednn.available())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
    assert run.stderr == (f"oneDNN cannot be used: {path}: file too short; convolutions are computed by im2col\n")


NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 3 dim: 12 dim: 12 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param {{ num_output: 16 kernel_size: 3 {0} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param {{ num_output: 16 kernel_size: 3 {0} weight_filler {{ type: "xavier" }} }} }}
"""


def test_layers_tell_their_engine(tmp_path):
    for written, expected in (("", "MKLDNN"), ("engine: CAFFE", "CAFFE"), ("engine: CUDNN", "MKLDNN")):
        path = tmp_path / "net.prototxt"
        path.write_text(NET.format(written))
        net = lf.Net(str(path), seed=1)
        assert [layer.engine.name for layer in net.layers if layer.type == "Convolution"] == [expected] * 2


def test_is_not_loaded_before_it_is_needed():
    code = "import layerforge; print(any('libdnnl' in line for line in open('/proc/self/maps')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
