"""Our calls of cuBLAS, answered by OpenBLAS on the host, which sees the same order, operations and addresses."""

import numpy as np
import pytest

from layerforge.device import cublas, get
from layerforge.errors import DeviceError, KernelError

emulated = get("emulated")


def there(values):
    array = emulated.empty(values.shape, values.dtype)
    emulated.from_numpy(array, values)
    return array


@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (3, 5, 7), (1, 40, 3), (40, 1, 3), (5, 4, 0), (0, 4, 3), (4, 0, 3)])
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gemm(M, N, K, ta, tb, dtype):
    random = np.random.default_rng(1)
    a, b, c = (random.standard_normal(shape).astype(dtype) for shape in [(M, K), (K, N), (M, N)])
    for alpha, beta in [(1, 0), (0.5, 1), (2, -1)]:
        out = there(c)
        emulated.gemm(
            there(np.ascontiguousarray(a.T) if ta else a), there(np.ascontiguousarray(b.T) if tb else b), out, ta, tb,
            alpha, beta,
        )  # fmt: skip
        np.testing.assert_allclose(emulated.to_numpy(out), alpha * (a @ b) + beta * c, atol=1e-5)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gemm_batch(ta, tb, dtype):
    random = np.random.default_rng(1)
    a = random.standard_normal((4, 3, 5)).astype(dtype)
    b = random.standard_normal((5, 2)).astype(dtype)
    stored_a = np.ascontiguousarray(a.transpose(0, 2, 1)) if ta else a
    out = there(np.full((4, 3, 2), np.nan, dtype))
    emulated.gemm_batch(
        there(stored_a), there(np.ascontiguousarray(b.T) if tb else b), out, (3, 2, 5), (15, 0, 6), 4, ta, tb
    )
    np.testing.assert_allclose(emulated.to_numpy(out), a @ b, rtol=1e-5)
    emulated.gemm_batch(out, out, out, (0, 2, 5), (0, 0, 0), 4, ta, tb)  # nothing to do


def test_gemm_refuses():
    a, b = emulated.zeros((2, 3)), emulated.zeros((3, 4))
    for arguments, message in (
        ((a, b, np.zeros((2, 4), np.float32)), "argument out: expected a C-contiguous matrix, received ndarray"),
        ((a[:, ::2], b, emulated.zeros((2, 4))), "argument a: expected a C-contiguous matrix, received float32 array,"
         " not C-contiguous, of shape (2, 2)"),
    ):  # fmt: skip
        with pytest.raises(KernelError) as caught:
            emulated.gemm(*arguments)
        assert str(caught.value) == f"gemm: {message}"


class Library:
    """Remembers its calls, and answers them with a status."""

    def __init__(self, **status):
        self.calls = []
        self.status = status

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            return self.status.get(name, 0)

        return call


def test_a_stream_brings_the_workspace_along():
    library = Library()
    blas = cublas.Cublas(library, 4096)
    blas.on(1)
    blas.on(1)
    blas.on(2)
    assert library.calls == ["cublasCreate_v2", *["cublasSetStream_v2", "cublasSetWorkspace_v2"] * 2]


def test_math_modes():
    library = Library()
    blas = cublas.Cublas(library)
    blas.set_math_mode("float32")  # as it is
    blas.set_math_mode("tf32")
    assert library.calls == ["cublasCreate_v2", "cublasSetMathMode"]
    with blas.math("float32"):
        assert blas.mode == "float32"
    assert blas.mode == "tf32"
    with pytest.raises(DeviceError) as caught:
        blas.set_math_mode("bf16")
    assert str(caught.value) == 'math_mode "bf16": there are float32, tf32'


@pytest.mark.parametrize("status, reason", [(3, "there is no memory for it"), (99, "error")])
def test_what_cublas_refuses(status, reason):
    with pytest.raises(DeviceError) as caught:
        cublas.Cublas(Library(cublasCreate_v2=status))
    assert str(caught.value) == f"cuBLAS: cublasCreate_v2: {reason} (status {status})"


def test_version():
    class Library:
        def cublasCreate_v2(self, handle):
            return 0

        def cublasGetProperty(self, which, value):
            value._obj.value = (13, 1, 7)[which.value]
            return 0

    assert cublas.Cublas(Library()).version == "13.1.7"
