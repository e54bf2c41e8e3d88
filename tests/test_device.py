import mmap
import subprocess
import sys

import numpy as np
import pytest

from layerforge import device
from layerforge.device import blas, cpu
from layerforge.errors import DeviceError, KernelError


@pytest.mark.parametrize("shape", [(), 5, (0, 3), (3, 4), (1024, 1024)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_memory(shape, dtype):
    for array in (cpu.zeros(shape, dtype), cpu.empty(shape, dtype)):
        assert array.shape == np.zeros(shape).shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous and array.flags.writeable
        assert array.ctypes.data % (2 << 20 if array.nbytes >= 2 << 20 else 64) == 0
    assert not cpu.zeros(shape, dtype).any()


def test_memory_lives_as_long_as_a_view_of_it():
    view = cpu.zeros((1000, 1000))[500:, ::2]
    others = [cpu.empty((1000, 1000)) for _ in range(3)]
    for other in others:
        other[...] = 1
    assert not view.any()


def test_memory_is_present_before_it_is_used():
    resource = pytest.importorskip("resource")
    array = cpu.empty(8 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array.fill(1)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < array.nbytes / mmap.PAGESIZE / 100


def test_memory_that_is_not_there():
    with pytest.raises(DeviceError) as caught:
        cpu.zeros((2**20, 2**36))
    message = "not enough memory for 274,877,906,944 MiB: an array (1048576, 68719476736) of float32"
    assert str(caught.value) == message


SHAPES = [
    (1, 1, 1),
    (1, 40, 300),
    (40, 1, 300),
    (33, 65, 47),
    (200, 30, 50),
    (3, 1000, 70),
    (5, 4, 0),
    (0, 4, 3),
    (4, 0, 3),
]


@pytest.mark.parametrize("M, N, K", SHAPES)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gemm(threads, M, N, K, transpose_a, transpose_b, dtype):
    random = np.random.default_rng(1)
    a, b, c = (random.standard_normal(shape).astype(dtype) for shape in [(M, K), (K, N), (M, N)])
    stored_a = np.ascontiguousarray(a.T) if transpose_a else a
    stored_b = np.ascontiguousarray(b.T) if transpose_b else b
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for alpha, beta in [(1, 0), (0.5, 1), (2, -1)]:
        out = np.full((M, N), np.nan, dtype) if beta == 0 else c.copy()
        cpu.gemm(stored_a, stored_b, out, transpose_a, transpose_b, alpha, beta)
        expected = alpha * (a.astype(np.float64) @ b.astype(np.float64)) + (beta * c if beta else 0)
        np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance * max(1, K))


def test_gemm_repeats_bit_for_bit():
    random = np.random.default_rng(1)
    a, b = (random.standard_normal((300, 300)).astype(np.float32) for _ in range(2))
    outs = [cpu.empty((300, 300)) for _ in range(5)]
    for out in outs:
        cpu.gemm(a, b, out)
    assert len({out.tobytes() for out in outs}) == 1


A = np.zeros((2, 3), np.float32)
B = np.zeros((3, 4), np.float32)
C = np.zeros((2, 4), np.float32)
READ_ONLY = np.zeros((2, 4), np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize("a, b, out, message", [
    (A[0], B, C, "argument a: expected a C-contiguous matrix, received float32 array of shape (3,)"),
    ([[1]], B, C, "argument a: expected a C-contiguous matrix, received list"),
    (A, np.zeros((4, 3), np.float32).T, C,
     "argument b: expected a C-contiguous matrix, received float32 array, not C-contiguous, of shape (3, 4)"),
    (A, B, np.zeros((2, 4), np.int32),
     "argument out: expected a writable float32 or float64 matrix, received int32 array of shape (2, 4)"),
    (A, B, READ_ONLY,
     "argument out: expected a writable float32 or float64 matrix, received a read-only float32 array of shape (2, 4)"),
    (A, B.astype(np.float64), C, "argument b: expected float32 as out has, received float64 array of shape (3, 4)"),
    (A, A, C, "op(a) is (2, 3) and op(b) is (2, 3); out must be (2, 3) and the inner sizes equal, but out is (2, 4)"),
])  # fmt: skip
def test_gemm_refuses(a, b, out, message):
    with pytest.raises(KernelError) as caught:
        cpu.gemm(a, b, out)
    assert str(caught.value) == "gemm: " + message


def test_copies():
    array = cpu.empty((2, 3))
    cpu.from_numpy(array, np.arange(6).reshape(2, 3))
    assert cpu.to_numpy(array) is array
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(DeviceError) as caught:
        cpu.from_numpy(array, np.zeros((1, 3)))
    assert str(caught.value) == "from_numpy: an array (1, 3) does not fit one of shape (2, 3)"
    cpu.synchronize()


def test_get():
    assert device.get("cpu") is cpu
    assert repr(cpu) == 'Device("cpu")'


@pytest.mark.parametrize("name, message", [
    ("cup", 'no device "cup"; there are: cpu, gpu, emulated. Did you mean "cpu"?'),
    ("gpu:one", 'no device "gpu:one"; there are: cpu, gpu, emulated. Did you mean "gpu"?'),
])  # fmt: skip
def test_get_of_what_is_not_there(name, message):
    with pytest.raises(DeviceError) as caught:
        device.get(name)
    assert str(caught.value) == message


def test_where_an_array_lies():
    emulated = device.get("emulated")
    assert device.of(np.zeros(2)) is cpu
    assert device.of(emulated.zeros(2)) is emulated
    assert device.home([1]) is None
    with pytest.raises(DeviceError) as caught:
        device.of([1])
    assert str(caught.value) == "an array of a device is wanted, not list"


def test_blas_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(blas, "PACKAGE", "scipy_openblas_that_is_not_there")
    with pytest.raises(DeviceError) as caught:
        blas.find()
    assert str(caught.value) == (
        "matrix products need OpenBLAS from the package scipy-openblas32, which is not installed; "
        "install it with `pip install scipy-openblas32`"
    )


def test_blas_that_is_damaged(monkeypatch, tmp_path):
    library = tmp_path / "libscipy_openblas.so"
    library.write_text("damaged")
    monkeypatch.setattr(blas, "find", lambda: library)
    with pytest.raises(DeviceError) as caught:
        blas.load()
    text = str(caught.value)
    assert text.startswith("OpenBLAS cannot be used: ") and str(library) in text
    assert text.endswith("; reinstall it with `pip install --force-reinstall scipy-openblas32`")


def test_large_arrays_take_no_more_than_their_size():
    """Huge pages are for whole ones: rounded up, an array of 2.2 MiB would take 4."""
    code = """
import re
import numpy as np
from layerforge.device import cpu
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = resident()
arrays = [cpu.zeros(int(2.2 * 2**20), np.uint8) for _ in range(40)]
print(resident() - before)
"""
    taken = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0.99 < taken / (40 * 2.2) < 1.1


def test_many_arrays_lie_apart_and_fresh_ones_are_zero():
    random = np.random.default_rng(0)
    made = {}
    for turn in range(3):
        for i in range(100):
            array = cpu.zeros(int(random.integers(1, 600_000)))
            assert array.ctypes.data % 64 == 0 and not array.any()
            array[...] = 100 * turn + i + 1
            made[100 * turn + i + 1] = array
        for number in list(made)[:: turn + 2]:
            del made[number]
    for number, array in made.items():
        assert (array == number).all()


def test_moments():
    first = cpu.moment()
    assert 0 <= cpu.between(first, cpu.moment()) < 60
    cpu.let_go()
    assert (cpu.taken_memory(), cpu.versions()) == (0, {})


def test_work_beside_other_work():
    """The emulated device does it as late as it may: whoever needs it earlier finds nothing."""
    emulated = device.get("emulated")
    x, y = emulated.zeros(2), emulated.zeros(2)

    def work():
        x.fill(0)
        with emulated.beside() as branch:
            x.fill(1)
        y[...] = x
        branch.join()
        y[...] += x
        with emulated.beside():
            x.fill(2)

    work()
    assert [emulated.to_numpy(each).tolist() for each in (x, y)] == [[1, 1], [1, 1]]
    replay = emulated.record(work)
    assert emulated.to_numpy(x).tolist() == [2, 2]  # what ran before is done before
    y.fill(0)
    replay()
    assert [emulated.to_numpy(each).tolist() for each in (x, y)] == [[2, 2], [1, 1]]
    with emulated.beside():
        x.fill(3)
    replay()
    with emulated.beside():
        x.fill(4)
    emulated.synchronize()
    assert emulated.to_numpy(x).tolist() == [4, 4]
    a = emulated.zeros((1, 1))
    with pytest.raises(KernelError) as caught, emulated.beside():
        emulated.gemm(a, a, a)
    assert str(caught.value) == "a product may not run beside others, which have the same workspace"
    with cpu.beside() as branch:  # in its order
        pass
    branch.join()
