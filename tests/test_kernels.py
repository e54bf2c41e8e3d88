import os
import re
import subprocess
import sys

import numpy as np
import pytest

from layerforge import _csrc, kernels
from layerforge.errors import KernelError
from layerforge.kernels import Kernels

K = Kernels("activation.h")

# One past the few elements that one thread keeps, shares that do not come out even, and nothing at all.
SIZES = [0, 1, 63, 4095, 4097, 100_003]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_element_is_computed_once(threads, size, dtype):
    x = np.random.default_rng(1).standard_normal(size).astype(dtype)
    y = np.full(size + 2, 7, dtype)
    K.relu_forward(x, y[1:-1], 0.5)
    np.testing.assert_array_equal(y[1:-1], np.where(x > 0, x, dtype(0.5) * x))
    assert y[0] == y[-1] == 7


def test_in_place():
    x = np.random.default_rng(1).standard_normal(100_003).astype(np.float32)
    expected = np.maximum(x, 0)
    K.relu_forward(x, x, 0)
    np.testing.assert_array_equal(x, expected)


def test_count_limits_what_is_computed():
    y = np.zeros(10, np.float32)
    K.tanh_forward(np.ones(10, np.float32), y, count=4)
    np.testing.assert_array_equal(y != 0, np.arange(10) < 4)


def test_shape_does_not_matter_only_size_and_layout_do():
    x = np.arange(-12, 12, dtype=np.float64).reshape(2, 3, 4)
    y = np.empty_like(x)
    K.relu_forward(x, y, 0)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_numpy_scalars_are_numbers():
    y = np.empty(1, np.float32)
    K.relu_forward(np.array([-2], np.float32), y, np.float32(0.5))
    K.relu_forward(np.array([-2], np.float32), y, np.int64(2))
    assert y[0] == -4


X = np.zeros(4, np.float32)
READ_ONLY = np.zeros(4, np.float32)
READ_ONLY.flags.writeable = False
F = "kernel relu_forward (activation.h): "
R = "kernel fill_uniform (random.h): "
I = "kernel fill_integer (random.h): "  # noqa: E741
random = Kernels("random.h")


@pytest.mark.parametrize("call, message", [
    (lambda: K.relu_forward(X, X), F + "expected 3 arguments (x, y, slope), received 2"),
    (lambda: K.relu_forward([1.0], X, 0),
     F + "argument x: expected a C-contiguous float32 or float64 array, received list [1.0]"),
    (lambda: K.relu_forward(np.zeros(4, np.int32), X, 0),
     F + "argument x: expected a C-contiguous float32 or float64 array, received int32 array of shape (4,)"),
    (lambda: K.relu_forward(np.zeros(4, ">f4"), X, 0),
     F + "argument x: expected a C-contiguous float32 or float64 array, received >f4 array of shape (4,)"),
    (lambda: K.relu_forward(X, np.zeros(4), 0),
     F + "argument y: expected a writable C-contiguous float32 array, received float64 array of shape (4,)"),
    (lambda: K.relu_forward(X, np.zeros((4, 2), np.float32)[:, 0], 0),
     F + "argument y: expected a writable C-contiguous float32 array, "
         "received float32 array, not C-contiguous, of shape (4,)"),
    (lambda: K.relu_forward(X, READ_ONLY, 0),
     F + "argument y: expected a writable C-contiguous float32 array, "
         "received a read-only float32 array of shape (4,)"),
    (lambda: K.relu_forward(X, X, "steep"), F + "argument slope: expected a number, received str 'steep'"),
    (lambda: K.relu_forward(X, X, None), F + "argument slope: expected a number, received None"),
    (lambda: K.relu_forward(X, None, 0), F + "needs count=, because it got no array to write to"),
    (lambda: K.relu_forward(X, X, 0, count=-1), F + "argument count: expected a number of elements, received int -1"),
    (lambda: K.relu_forward(X, X, slope=0), F + "unknown keyword slope; only count may be given by name"),
    (lambda: random.fill_uniform(X, 0, 1, -1, 0, 0),
     R + "argument seed: expected an integer of type uint64, received int -1"),
    (lambda: random.fill_uniform(X, 0, 1, 0, 2**32, 0),
     R + "argument stream: expected an integer of type uint32, received int 4294967296"),
    (lambda: random.fill_uniform(X, 0, 1, 0, 0.5, 0), R + "argument stream: expected an integer, received float 0.5"),
    (lambda: random.fill_integer(X, 0, 1, 0, 0, 0),
     I + "argument y: expected a writable C-contiguous int32 array, received float32 array of shape (4,)"),
    (lambda: random.fill_integer(np.zeros(1, np.int32), 0, 2**31, 0, 0, 0),
     I + "argument high: expected an integer of type int32, received int 2147483648"),
    (lambda: K.relu_forwad(X, X, 0), 'activation.h has no kernel "relu_forwad". Did you mean "relu_forward"?'),
    (lambda: Kernels("activatoin.h"),
     'no kernel header "activatoin.h" was built in. Did you mean "activation.h"?'),
    (lambda: kernels.set_threads(0), "the number of threads must be 1 or more, not 0"),
    (lambda: kernels.element_type(np.int8), "numbers are float32 or float64, not int8"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(KernelError) as caught:
        call()
    assert str(caught.value) == message


def test_kernels_can_be_listed():
    assert "relu_forward" in dir(K)
    with pytest.raises(AttributeError):
        K.__wrapped__  # noqa: B018


def test_the_default_is_one_thread_for_each_core_of_the_process():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from layerforge.kernels import get_threads; print(get_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "1\n"
    environment["OMP_NUM_THREADS"] = "3"
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "3\n"


def test_wide_indices():
    """The variants for more than 2^31 elements, on few."""
    wide, pooling = Kernels("activation.h", wide=True), Kernels("pooling.h", tuned=False, wide=True)
    x = np.random.default_rng(1).standard_normal((4, 30, 31)).astype(np.float32)
    y = np.empty_like(x)
    wide.relu_forward(x, y, 0.5)
    np.testing.assert_array_equal(y, np.where(x > 0, x, np.float32(0.5) * x))
    arguments = (1, 30, 31, 1, 3, 3, 1, 2, 2, 0, 1, 1, 1, 16, 16)
    pooled, expected = np.empty((2, 4, 16, 16), np.float32)
    pooling.max_forward(x, pooled, None, *arguments)
    Kernels("pooling.h").max_forward(x, expected, None, *arguments)
    np.testing.assert_array_equal(pooled, expected)


def test_every_kernel_header_is_built_in():
    headers = {path.stem for path in (kernels.include_path() / "kernels").glob("*.h")}
    assert headers == set(_csrc.kernels)


def test_a_kernel_header_includes_nothing_but_portable():
    for path in (kernels.include_path() / "kernels").glob("*.h"):
        included = re.findall(r'^\s*#include\s+["<](.*)[">]', path.read_text(encoding="utf-8"), re.M)
        assert included == ["portable.h"], path.name


@pytest.mark.parametrize(
    "name, forward, derivative",
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
        ("tanh", np.tanh, lambda y: 1 - y * y),
    ],
)
@pytest.mark.parametrize("functions", [K, K.portable], ids=["tuned", "portable"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3e-7), (np.float64, 1e-15)])
def test_smooth_activations(functions, name, forward, derivative, dtype, tolerance):
    x = np.concatenate([np.linspace(-20, 20, 10_001), [-1e30, -700, -88, 0, 1e-30, 88, 700, 1e30]]).astype(dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    getattr(functions, f"{name}_forward")(x, y)
    with np.errstate(over="ignore"):
        expected = forward(x.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
    if name == "tanh":
        np.testing.assert_allclose(y, expected, rtol=tolerance * 10)
    dy = np.cos(np.arange(x.size, dtype=dtype))
    getattr(functions, f"{name}_backward")(y, dy, dx)
    np.testing.assert_allclose(dx, dy * derivative(y), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name, limits", [("sigmoid", [0, 1]), ("tanh", [-1, 1])])
def test_smooth_activations_of_what_is_not_finite(name, limits):
    for size in (3, 100):  # alone and in vectors
        x = np.resize(np.array([-np.inf, np.inf, np.nan], np.float32), size)
        y = np.empty_like(x)
        getattr(K, f"{name}_forward")(x, y)
        np.testing.assert_array_equal(y, np.resize([*limits, np.nan], size))
        getattr(K, f"{name}_forward")(x, x)  # in place
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "given, expected", [({}, None), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_loading_leaves_the_environment_alone(given, expected):
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os; from layerforge import native; print(os.environ.get('GOMP_SPINCOUNT'))"
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(expected)
