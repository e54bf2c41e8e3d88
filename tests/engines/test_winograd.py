import numpy as np
import pytest

from layerforge import _csrc, engines
from layerforge.engines import Geometry, Im2col, Winograd, onednn, winograd
from layerforge.errors import KernelError

pytestmark = pytest.mark.skipif(not hasattr(_csrc, "WinogradConvolution"), reason="for AVX-512")


def geometry(batch, channels, num_output, spatial, pad=1, group=1):
    ones, output = (1, 1), tuple(size + 2 * pad - 2 for size in spatial)
    return Geometry(batch, channels, num_output, group, spatial, (3, 3), ones, (pad, pad), ones, output)


CASES = {
    "whole tiles": geometry(2, 32, 64, (8, 12)),
    "13x13": geometry(3, 48, 80, (13, 13)),
    "a plane smaller than a tile": geometry(40, 64, 16, (3, 2)),
    "no padding": geometry(3, 64, 32, (9, 14), pad=0),
    "much padding": geometry(2, 32, 48, (9, 7), pad=2),
    "groups": geometry(2, 64, 96, (11, 13), group=2),
    "groups of one block": geometry(2, 48, 48, (7, 7), group=3),
    "13 vectors of outputs": geometry(9, 96, 208, (14, 14)),
    "few tiles": geometry(1, 128, 320, (14, 14)),
    "many channels": geometry(2, 512, 512, (14, 14)),
    "past the caches": geometry(6, 16, 16, (225, 223)),
}
LIES = ["blocks", "whole", "plain y", "plain x"]


def sides(g, lies):
    ways = {"blocks": (16, 16), "whole": (g.channels, g.num_output), "plain y": (g.channels, 1), "plain x": (1, 16)}
    return ways[lies]


def in_order(array, block):
    """In blocks of so many channels, and back."""
    return np.moveaxis(array.reshape(len(array), -1, block, *array.shape[2:]), 2, -1).copy().reshape(array.shape)


def from_order(array, block):
    shape = array.shape
    return np.moveaxis(array.reshape(shape[0], shape[1] // block, *shape[2:], block), -1, 2).reshape(shape)


def draw(g, seed=1):
    random = np.random.default_rng(seed)
    shapes = (g.input_shape, g.weight_shape, (g.num_output,), g.output_shape)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def aligned(shape):
    """At a boundary of 64 bytes, as a net's blobs lie."""
    room = np.empty(np.prod(shape) + 16, np.float32)
    start = -room.ctypes.data // 4 % 16
    return room[start : start + np.prod(shape)].reshape(shape)


def close(found, expected, relative=1e-5):
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(winograd, "is_faster", lambda g: True)


@pytest.mark.parametrize("lies", LIES)
@pytest.mark.parametrize("name", CASES)
def test_computes_what_im2col_does(set_threads, name, lies):
    g, seen = CASES[name], set()
    block = sides(g, lies)
    x, w, b, dy = draw(g)
    columns, engine = Im2col(), Winograd(block)
    set_threads(7)  # the sums of a single thread are longer, and less exact
    y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.ones_like(w), np.ones_like(b)
    scratch = np.empty(columns.scratch(g), np.float32)
    columns.forward(x, w, b, y, g, scratch)
    columns.backward_data(dy, w, dx, g, scratch)
    columns.backward_weights(x, dy, dw, db, g, scratch)
    x, dy = in_order(x, block[0]), in_order(dy, block[1])
    for count in (1, 2, 3, 7):
        set_threads(count)
        scratch = np.full(engine.scratch(g) + 1, np.nan, np.float32)[1:]  # begins at no boundary
        kept = np.zeros(engine.kept(g) + 1, np.float32)[1:]
        found, found_dx = aligned(g.output_shape), np.full_like(x, np.nan)
        for room in (None, kept, kept):
            found[...] = np.nan
            again = engine.forward(x, w, b, found, g, scratch, room)
            seen.add(found.tobytes())
        set_threads(count + 1)  # needs no more memory
        again()
        seen.add(found.tobytes())
        set_threads(count)
        engine.backward_data(dy, w, found_dx, g, scratch)
        seen.add(found_dx.tobytes())
        found_dw, found_db, alone = np.ones_like(w), np.ones_like(b), np.ones_like(w)
        engine.backward_weights(x, dy, found_dw, found_db, g, scratch)
        engine.backward_weights(x, dy, alone, None, g, scratch)
        seen |= {found_dw.tobytes(), alone.tobytes(), found_db.tobytes()}
    assert len(seen) == 4
    close(from_order(found, block[1]), y)
    close(from_order(found_dx, block[0]), dx)
    close(found_dw, dw)
    close(found_db, db)


def test_supports(always):
    fits = CASES["13x13"]
    assert Winograd((16, 16)).supports(fits, np.float32)
    assert Winograd((48, 80)).supports(fits, np.float32)
    assert not Winograd((16, 16)).supports(fits, np.float64)
    assert not Winograd((8, 8)).supports(fits, np.float32)
    for g in (
        Geometry(2, 32, 32, 1, (9, 9), (3, 3), (2, 2), (1, 1), (1, 1), (5, 5)),
        Geometry(2, 32, 32, 1, (9, 9), (3, 3), (1, 1), (2, 2), (2, 2), (9, 9)),
        Geometry(2, 32, 32, 1, (9, 9), (5, 5), (1, 1), (2, 2), (1, 1), (9, 9)),
        Geometry(2, 32, 32, 1, (9,), (3,), (1,), (1,), (1,), (9,)),
        Geometry(2, 32, 32, 1, (9, 9, 9), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), (9, 9, 9)),
        geometry(2, 24, 32, (9, 9)),
        geometry(2, 48, 48, (9, 9), group=2),
        geometry(0, 32, 32, (9, 9)),
    ):
        assert not Winograd((16, 16)).supports(g, np.float32)
    large = geometry(12, 16, 64, (225, 223))
    assert Winograd((16, 16)).supports(large, np.float32)
    assert not Winograd((16, 1)).supports(large, np.float32)  # too much to copy


@pytest.mark.parametrize("written", engines.NAMES)
def test_is_chosen_where_it_gains(written):
    """CAFFE stays im2col. At few positions, reading the weights takes longer than what is saved."""
    many, few = geometry(32, 256, 384, (13, 13)), geometry(1, 512, 512, (7, 7))
    if not onednn.available():
        pytest.skip("what is in blocks lies so for oneDNN")
    expected = None if written == "CAFFE" else "Winograd"
    assert getattr(engines.convolution("cpu", written, many, block=(16, 16)), "name", None) == expected
    assert getattr(engines.convolution("cpu", written, few, block=(16, 16)), "name", None) == (expected and "MKLDNN")
    assert engines.gain_by_whole("cpu", many, np.float32) == 0 < engines.gain_by_whole("cpu", few, np.float32)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("adds", ["nothing", "a term", "what lies in y"])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_forward_and_on(always, rectify, adds, keep, whole):
    g = CASES["groups"]
    engine = Winograd((g.channels, g.num_output) if whole else (16, 16))
    x, w, shift, term = draw(g)
    assert engine.supports(g, np.float32) and engine.follows(g) and engine.adds(g) and engine.adds_in_place(g)
    factor = np.random.default_rng(2).standard_normal(g.num_output).astype(np.float32)
    scratch, kept = np.empty(engine.scratch(g), np.float32), np.zeros(engine.kept(g), np.float32)
    for _ in range(2):
        plain = np.empty_like(term)
        engine.forward(x, w * factor[:, None, None, None], shift, plain, g, scratch)
        expected = plain + (0 if adds == "nothing" else term)
        expected = np.maximum(expected, 0) if rectify else expected
        y = term.copy()
        also = {"nothing": None, "a term": term, "what lies in y": y}[adds]
        given = (x, w, factor, shift, y, g, scratch, kept if keep else None)
        again = engine.forward_and_on(*given, rectify=rectify, term=also)
        close(y, expected, 1e-6)
        y[...] = term
        again()
        close(y, expected, 1e-6)
        factor[3] += 1  # is seen


def test_adds_nothing_to_plain_y():
    assert not Winograd((16, 1)).adds(CASES["13x13"]) and not Winograd((16, 1)).adds_in_place(CASES["13x13"])


def test_rectifies_nan_to_nan(always):
    g = geometry(1, 16, 16, (4, 8))
    engine = Winograd((16, 16))
    x, w, b, y = draw(g)
    lies = x.reshape(4, 8, 16)
    lies[0, 7, 5] = np.nan
    ones, scratch = np.ones(16, np.float32), np.empty(engine.scratch(g), np.float32)
    engine.forward_and_on(x, w, ones, b, y, g, scratch, rectify=True)
    found = y.reshape(4, 8, 16)
    assert np.isnan(found[:2, 6:]).all()
    assert not np.isnan(found[:, :4]).any()  # the tile beside
    assert (found[:, :4] >= 0).all() and (found[:, :4] == 0).any()


def test_weights_are_kept_until_they_change(always):
    g, engine = CASES["13x13"], Winograd((16, 16))
    x, w, b, y = draw(g)
    scratch, kept, expected = aligned((engine.scratch(g),)), aligned((engine.kept(g),)), np.empty_like(y)
    kept[...] = 0
    for change in (lambda: None, lambda: np.negative(w, out=w), lambda: w.reshape(-1)[-1:].__iadd__(1), w.sort):
        change()
        engine.forward(x, w, b, y, g, scratch, kept)
        engine.forward(x, w, b, expected, g, scratch)
        np.testing.assert_array_equal(y, expected)
    kept[16:] = 0  # nobody looks for changes there, so these are the weights that are used
    engine.forward(x, w, None, y, g, scratch, kept)
    assert not y.any()
    few = np.zeros(engine.kept(g) - 1, np.float32)
    engine.forward(x, w, b, y, g, scratch, few)
    assert not few.any()
    np.testing.assert_array_equal(y, expected)


def test_wrong_arrays():
    g, engine = CASES["whole tiles"], Winograd((16, 16))
    x, w, b, y = draw(g)
    scratch = np.empty(engine.scratch(g), np.float32)
    with pytest.raises(KernelError, match="argument x: expected a C-contiguous float32 array of shape"):
        engine.forward(x[:, ::-1], w, b, y, g, scratch)
    with pytest.raises(KernelError, match="argument y: expected a C-contiguous float32 array of shape"):
        engine.forward_and_on(x, w, b, b, y, g, scratch, rectify=True, term=y[:1])
    with pytest.raises(KernelError, match="scratch must have"):
        engine.backward_data(y, w, x, g, scratch[:1])
    with pytest.raises(KernelError, match="argument dw: expected a C-contiguous float32 array of shape"):
        engine.backward_weights(x, y, w[1:], b, g, scratch)
