"""The emulated device: what runs on a GPU, run on the CPU, so that every machine can test it.

Arrays, launches and matrix products take the same way through Python as on a GPU, and kernels are the same bodies, one
thread of the grid after the other, in an order that changes with every launch. It is slow, and it is strict: its memory
is not numpy's, so that code which touches a GPU's arrays as if they were the host's fails here too.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..errors import DeviceError, KernelError
from . import blas
from .base import Branch, Device, Number, Reading, Threads, check_gemm, homes, refuse_while_recording
from .cublas import Cublas

#: Functions of numpy's that layers may call on a device's arrays, because CuPy has them too.
FUNCTIONS = {np.split, np.concatenate, np.sum}

SLOT = 16  # bytes that `layerforge.launch` lays out for each argument
BLOCKS, THREADS = 3, 32  # few, so that the loops over the grid turn


class Stream(threading.local):
    """Where a thread's work goes: it is done at once, or while a record is made, kept for its replays."""

    kept: list[Callable[[], Any]] | None = None
    beside: Late | None = None

    def __init__(self) -> None:
        self.branches: list[Late] = []

    def do(self, work: Callable[[], Any]) -> None:
        if self.beside is not None:
            self.beside.work.append(work)
        elif self.kept is None:
            work()
        else:
            self.kept.append(work)

    def join_all(self) -> None:
        for branch in self.branches[:]:
            branch.join()

    def refuse(self, what: str) -> None:
        """Raises DeviceError while a record is made."""
        if self.kept is not None:
            refuse_while_recording(what)


stream = Stream()


class Late(Branch):
    """Work beside that of others, which is done as late as it may."""

    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def join(self) -> None:
        work, self.work = self.work, []
        for each in work:
            stream.do(each)
        if self in stream.branches:
            stream.branches.remove(self)


class Array(NDArrayOperatorsMixin):
    """An array of the emulated device, with as much of CuPy's interface as layers need.

    Numbers and other such arrays may be stored in it, and computed with; numpy's arrays may not.
    """

    __slots__ = ("__weakref__", "_memory")

    def __init__(self, memory: np.ndarray):
        self._memory = memory

    dtype = property(lambda self: self._memory.dtype)
    shape = property(lambda self: self._memory.shape)
    size = property(lambda self: self._memory.size)
    ndim = property(lambda self: self._memory.ndim)
    nbytes = property(lambda self: self._memory.nbytes)
    itemsize = property(lambda self: self._memory.itemsize)
    strides = property(lambda self: self._memory.strides)

    @property
    def flags(self) -> Any:
        return SimpleNamespace(c_contiguous=self._memory.flags.c_contiguous)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._memory.ctypes.data)

    def reshape(self, *shape: Any) -> Array:
        return self._part(self._memory.reshape(*shape), "reshape of an array that is not contiguous")

    def swapaxes(self, first: int, second: int) -> Array:
        return Array(self._memory.swapaxes(first, second))

    def view(self, dtype: Any) -> Array:
        return Array(self._memory.view(dtype))

    def copy(self) -> Array:
        return _new(self._memory.copy(), "copy")

    def fill(self, value: float) -> None:
        stream.do(lambda: self._memory.fill(value))

    def sum(self, axis: Any = None, dtype: Any = None) -> Array:
        return _new(self._memory.sum(axis=axis, dtype=dtype), "sum")

    def _part(self, memory: np.ndarray, what: str) -> Array:
        """A view of this array, or a copy, which takes memory."""
        if stream.kept is not None and memory.size and not np.may_share_memory(memory, self._memory):
            stream.refuse(what)
        return Array(memory)

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Array:
        found = self._memory[index]
        if not isinstance(found, np.ndarray):  # one element, which is a view on a GPU
            found = self._memory[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        return self._part(found, "an index that copies")

    def __setitem__(self, index: Any, value: Any) -> None:
        given = _unwrap(value)
        stream.do(lambda: self._memory.__setitem__(index, given))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("an array of the emulated device is no numpy array; device.to_numpy makes one of it")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        given = [_unwrap(each) for each in inputs]
        if out is not None:
            options["out"] = tuple(_unwrap(each) for each in out)
            stream.do(lambda: getattr(ufunc, method)(*given, **options))
            return out[0]
        return _new(getattr(ufunc, method)(*given, **options), f"{ufunc.__name__} without out=")

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"numpy.{function.__name__} does not take arrays of the emulated device")
        first, *others = arguments
        many = isinstance(first, (list, tuple))
        result = function([_unwrap(each) for each in first] if many else _unwrap(first), *others, **options)
        if isinstance(result, list):
            return [Array(each) for each in result]
        return _new(result, function.__name__)

    def __repr__(self) -> str:
        return f"<emulated {self.dtype} array {self.shape}>"


def _new(memory: Any, what: str) -> Array:
    """An array of memory that was taken for it."""
    stream.refuse(what)
    return Array(np.asarray(memory))


def _unwrap(value: Any) -> Any:
    if isinstance(value, Array):
        return value._memory
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the emulated device takes no numpy array; device.from_numpy copies one into it")
    return value


class HostBlas:
    """The functions of cuBLAS that are used, done by OpenBLAS on the host: column order, and addresses."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(blas.find()))
        self._gemm = {"s": library.scipy_cblas_sgemm, "d": library.scipy_cblas_dgemm}

    def cublasCreate_v2(self, handle: Any) -> int:
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:
        return 0

    def cublasSetMathMode(self, handle: Any, mode: Any) -> int:
        return 0

    def cublasSgemm_v2(self, handle: Any, *arguments: Any) -> int:
        return self._product("s", ctypes.c_float, *arguments)

    def cublasDgemm_v2(self, handle: Any, *arguments: Any) -> int:
        return self._product("d", ctypes.c_double, *arguments)

    def cublasSgemmStridedBatched(self, handle: Any, *arguments: Any) -> int:
        return self._products("s", ctypes.c_float, *arguments)

    def cublasDgemmStridedBatched(self, handle: Any, *arguments: Any) -> int:
        return self._products("d", ctypes.c_double, *arguments)

    def _products(
        self, letter: str, real: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any,
        a: Any, lda: Any, step_a: Any, b: Any, ldb: Any, step_b: Any, beta: Any, c: Any, ldc: Any, step_c: Any,
        number: Any,
    ) -> int:  # fmt: skip
        size = ctypes.sizeof(real)
        for i in range(number.value):
            places = [
                ctypes.c_void_p(each.value + i * step.value * size)
                for each, step in ((a, step_a), (b, step_b), (c, step_c))
            ]
            self._product(letter, real, ta, tb, m, n, k, alpha, places[0], lda, places[1], ldb, beta, places[2], ldc)
        return 0

    def _product(
        self, letter: str, real: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any,
        a: Any, lda: Any, b: Any, ldb: Any, beta: Any, c: Any, ldc: Any,
    ) -> int:  # fmt: skip
        column_order, plain, transposed = 102, 111, 112
        self._gemm[letter](
            column_order, transposed if ta.value else plain, transposed if tb.value else plain, m, n, k,
            real(alpha._obj.value), a, lda, b, ldb, real(beta._obj.value), c, ldc,
        )  # fmt: skip
        return 0


class Copy(Reading):
    """A copy of an array that comes when the stream comes to it."""

    def __init__(self, array: Array):
        self.array = array
        self.values = np.zeros(array.shape, array.dtype)

    def start(self) -> None:
        stream.do(lambda: np.copyto(self.values, self.array._memory))

    def wait(self) -> np.ndarray:
        return self.values


class Emulated(Device):
    """A GPU that is none."""

    name = "emulated"
    records = True
    channels_last = True

    def __init__(self) -> None:
        self.seed = 1  # decides the order of threads, and changes with every launch

    @functools.cached_property
    def cublas(self) -> Cublas:
        return Cublas(HostBlas())

    @functools.cached_property
    def _grids(self) -> Any:
        try:
            from .. import _emulated
        except ImportError as error:
            raise DeviceError(
                f"the emulated device is not built ({error}); build it with `pip install .` in the source folder"
            ) from error
        return _emulated

    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Array:
        stream.refuse("new memory")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = np.dtype(dtype)
        try:
            return Array(np.zeros(shape, dtype))  # of exactly that size: a sanitizer sees what lies behind it
        except MemoryError:
            size = math.prod(shape) * dtype.itemsize / 2**20
            raise DeviceError(f"not enough memory for {size:,.0f} MiB: an array {shape} of {dtype}") from None

    def gemm(
        self,
        a: Array,
        b: Array,
        out: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        check_gemm(lambda value: isinstance(value, Array), _describe, a, b, out, transpose_a, transpose_b)
        self._multiply(lambda: self.cublas.gemm(a, b, out, transpose_a, transpose_b, alpha, beta))

    def math(self, mode: str) -> AbstractContextManager[None]:
        return self.cublas.math(mode)

    def gemm_batch(self, *arguments: Any) -> None:
        self._multiply(lambda: self.cublas.gemm_batch(*arguments))

    def _multiply(self, product: Callable[[], None]) -> None:
        """Products are recorded with the mode that they were asked for in, as by cuBLAS."""
        mode = self.cublas.mode
        if stream.beside is not None:
            raise KernelError("a product may not run beside others, which have the same workspace")

        def work() -> None:
            with self.cublas.math(mode):
                product()

        stream.do(work)

    def to_numpy(self, array: Array) -> np.ndarray:
        stream.refuse("to_numpy")
        return array._memory.copy()

    def from_numpy(self, out: Array, array: np.ndarray) -> None:
        stream.refuse("from_numpy")
        if out.shape != np.shape(array):
            raise DeviceError(f"from_numpy: an array {np.shape(array)} does not fit one of shape {out.shape}")
        out._memory[...] = array

    def reading(self, array: Array) -> Copy:
        stream.refuse("memory for a copy")
        return Copy(array)

    def synchronize(self) -> None:
        stream.refuse("synchronize")  # else every call returns when its work is done, but for that beside others
        stream.join_all()

    @contextlib.contextmanager
    def beside(self) -> Iterator[Late]:
        stream.beside = branch = Late()
        stream.branches.append(branch)
        try:
            yield branch
        finally:
            stream.beside = None

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        stream.refuse("another record")
        stream.join_all()
        kept: list[Callable[[], Any]] = []
        stream.kept = kept
        try:
            work()
            stream.join_all()
        finally:
            stream.kept, stream.branches = None, []

        def replay() -> None:
            stream.join_all()
            for each in kept:
                each()

        return replay

    def number(self, dtype: Any) -> Number:
        return Number(self.zeros(1, dtype), self._write)

    def _write(self, array: Array, value: np.ndarray) -> None:
        stream.refuse("a new number")
        array._memory[...] = value

    def grid(self, count: int) -> tuple[int, Threads]:
        return min(BLOCKS, -(-count // THREADS)), (THREADS, 1, 1)

    def grid_of_teams(self, count: int, terms: int, side: int) -> tuple[int, Threads]:
        return min(BLOCKS, count), (1, 1, 1)  # csrc/portable.h plays all threads of a team

    def launch(self, form: Any, blocks: int, threads: Threads, arguments: int) -> None:
        body = self._grids.find(form.key)
        if not body:
            raise KernelError(f"{form.family}.h: {form.key} is not built; build with `pip install .` again")
        if stream.kept is None:
            self._run(body, blocks, threads, arguments)
            return
        number = len(form.signature.parameters) + 1  # the count goes before them
        first = ctypes.cast(arguments, ctypes.POINTER(ctypes.c_void_p))[0]
        kept = ctypes.create_string_buffer(ctypes.string_at(first, SLOT * number), SLOT * number)

        def again() -> None:
            base = ctypes.addressof(kept)
            places = (ctypes.c_void_p * number)(*range(base, base + SLOT * number, SLOT))
            self._run(body, blocks, threads, ctypes.addressof(places))

        stream.do(again)

    def _run(self, body: int, blocks: int, threads: Threads, arguments: int) -> None:
        self.seed = (self.seed * 6364136223846793005 + 1442695040888963407) % 2**64
        self._grids.launch(body, blocks, threads[0], arguments, self.seed >> 16)


def _describe(value: Any) -> str:
    if not isinstance(value, Array):
        return type(value).__name__
    layout = "" if value.flags.c_contiguous else ", not C-contiguous,"
    return f"{value.dtype} array{layout} of shape {value.shape}"


emulated = Emulated()
homes[Array] = lambda array: emulated
