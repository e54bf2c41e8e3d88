"""Engines of fully connected layers, against numpy in float64."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import device, engines
from layerforge.engines import OneDnnProducts, Products, onednn
from layerforge.errors import KernelError

ENGINES = {"BLAS": Products(), "oneDNN": OneDnnProducts(own=False), "own": OneDnnProducts()}

SIZES = {
    # M, K, N
    "LeNet's ip1": (64, 800, 500),
    "LeNet's ip2": (64, 500, 10),
    "one row": (1, 70, 33),
    "few rows": (7, 70, 33),
    "more rows than are taken together": (133, 40, 20),
    "one value": (9, 1, 5),
    "one output": (9, 50, 1),
    "deeper than is taken together": (9, 2100, 13),
    "no row": (0, 20, 7),
    "all is odd": (11, 1031, 17),
}


def engine(name):
    found = ENGINES[name]
    if not found.supports(np.float32):
        pytest.skip("oneDNN's wheel is for Linux on x86-64")
    return found


def results(engine, size, transposed, bias=True, dtype=np.float32):
    """Arguments and results: y, dx, and dw added to 3."""
    M, K, N = size
    random = np.random.default_rng(1)
    shapes = (M, K), (K, N) if transposed else (N, K), (N,), (M, N)
    x, w, b, dy = (random.standard_normal(shape).astype(dtype) for shape in shapes)
    y, dx, dw = np.full(dy.shape, np.nan, dtype), np.full(x.shape, np.nan, dtype), np.full(w.shape, 3, dtype)
    scratch = np.full(engine.scratch(M, K, N), np.nan, dtype)
    engine.forward(x, w, b if bias else None, y, transposed, scratch)
    engine.backward_data(dy, w, dx, transposed)
    engine.backward_weights(x, dy, dw, transposed, scratch)
    return (x, w, b, dy), (y, dx, dw)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", ENGINES)
def test_formula(threads, name, size, bias, transposed):
    arguments, (y, dx, dw) = results(engine(name), size, transposed, bias)
    x, w, b, dy = (array.astype(np.float64) for array in arguments)
    if transposed:
        w = w.T
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.sqrt(max(size))}
    np.testing.assert_allclose(y, x @ w.T + (b if bias else 0), **tolerance)
    np.testing.assert_allclose(dx, dy @ w, **tolerance)
    np.testing.assert_allclose(dw.T if transposed else dw, 3 + dy.T @ x, **tolerance)


FEW = {
    "LeNet's ip2": (64, 500, 10),
    "one output": (256, 50, 1),
    "the most": (128, 1024, 16),
    "one value": (9, 1, 5),
    "no row": (0, 20, 7),
}
MORE = {
    "outputs": (4, 30, 17),
    "rows": (257, 3, 2),
    "rows and outputs": (205, 3, 10),
    "values": (2, 1025, 3),
    "none": (2, 0, 3),
}


@pytest.mark.parametrize("slope", [None, 0, 0.25])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [*FEW.values(), *MORE.values()], ids=[*FEW, *(f"more {each}" for each in MORE)])
def test_a_gpu_s(size, bias, transposed, slope):
    """By our own kernels up to so much, and by cuBLAS beyond that."""
    there, found = device.get("emulated"), engines.products("emulated", "DEFAULT")
    assert found.needs_workspace(*size) == (size in MORE.values())
    M, K, N = size
    random = np.random.default_rng(1)
    given = [random.standard_normal(shape).astype(np.float32) for shape in ((M, K), (N, K), (N,), (M, N))]
    x, w, b, dy = (values.astype(np.float64) for values in given)
    if transposed:
        given[1] = np.ascontiguousarray(given[1].T)
    arrays = [there.empty(values.shape) for values in given]
    for array, values in zip(arrays, given, strict=True):
        there.from_numpy(array, values)
    y, dx, dw = (there.zeros(values.shape) for values in (given[3], given[0], given[1]))
    for array in (y, dx, dw):
        array.fill(np.nan)
    rectified = {"slope": slope} if bias else {}
    found.forward(arrays[0], arrays[1], arrays[2] if bias else None, y, transposed, None, **rectified)
    found.backward_data(arrays[3], arrays[1], dx, transposed)
    found.backward_weights(arrays[0], arrays[3], dw, transposed, None, add=False)
    found.backward_weights(arrays[0], arrays[3], dw, transposed, None)
    expected = x @ w.T + (b if bias else 0)
    if bias and slope is not None:
        expected = np.where(expected > 0, expected, slope * expected)
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.sqrt(max(size))}
    np.testing.assert_allclose(there.to_numpy(y), expected, **tolerance)
    np.testing.assert_allclose(there.to_numpy(dx), dy @ w, **tolerance)
    np.testing.assert_allclose(there.to_numpy(dw).T if transposed else there.to_numpy(dw), 2 * dy.T @ x, **tolerance)


def test_in_double_precision():
    arguments, (y, _, _) = results(engines.products("cpu", "DEFAULT", np.float64), (5, 6, 7), False, dtype=np.float64)
    np.testing.assert_allclose(y, arguments[0] @ arguments[1].T + arguments[2], rtol=1e-13)


@pytest.mark.parametrize("name", ENGINES)
def test_bits_repeat(threads, name):
    for size in SIZES.values():
        seen = {b"".join(array.tobytes() for array in results(engine(name), size, False)[1]) for _ in range(3)}
        assert len(seen) == 1


@pytest.mark.parametrize("written", engines.NAMES)
def test_names(written):
    """CAFFE is BLAS; what else may be written is the fast engine of the device."""
    fast = "MKLDNN" if onednn.available() else "CAFFE"
    assert engines.products("cpu", written).name == ("CAFFE" if written == "CAFFE" else fast)
    assert engines.products("cpu", written, np.float64).name == "CAFFE"
    assert engines.products("emulated", written).name == "CAFFE"


def test_a_layer_has_the_engine_that_it_asks_for(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
                inner_product_param { num_output: 4 engine: CAFFE } }
        """
    )
    assert lf.Net(str(path)).layer_dict["ip"].engine.name == "CAFFE"


def test_wrong_arrays():
    x, w, y = np.ones((9, 3), np.float32), np.ones((4, 3), np.float32), np.ones((9, 4))
    with pytest.raises(KernelError) as caught:
        engine("own").forward(x, w, None, y, False, np.empty(200, np.float32))
    assert str(caught.value) == (
        "gemm: argument a: expected float64 as out has, received float32 array of shape (9, 3)"
    )


@pytest.mark.skipif(not OneDnnProducts().own, reason="our own kernels are for AVX-512")
def test_too_little_scratch():
    x, w, y = np.ones((9, 3), np.float32), np.ones((4, 3), np.float32), np.ones((9, 4), np.float32)
    with pytest.raises(KernelError) as caught:
        OneDnnProducts().forward(x, w, None, y, False, np.empty(3, np.float32))
    assert str(caught.value) == "forward: scratch must have 48 elements, not 3"
    with pytest.raises(KernelError) as caught:
        OneDnnProducts().backward_weights(x, y, w, False, np.empty(3, np.float32))
    assert str(caught.value) == "backward_weights: scratch must have 90 elements, not 3"


@pytest.mark.parametrize("batch", [1, 4, 5, 16, 17, 33, 48, 49, 80, 100])
def test_every_way_of_taking_a_batch(threads, batch):
    (x, w, b, _), (y, _, _) = results(engine("own"), (batch, 1100, 21), False)
    x, w, b = (array.astype(np.float64) for array in (x, w, b))
    np.testing.assert_allclose(y, x @ w.T + b, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not OneDnnProducts().own, reason="our own kernels are for AVX-512")
@pytest.mark.parametrize("batch", [3, 40, 70])
def test_bits_do_not_depend_on_threads(batch, set_threads):
    seen = set()
    for count in (1, 2, 3):
        set_threads(count)
        _, (y, _, dw) = results(engine("own"), (batch, 1300, 700), False)
        seen.add(y.tobytes() + dw.tobytes())
    assert len(seen) == 1
