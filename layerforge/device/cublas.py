"""cuBLAS through ctypes: CuPy's own calls refuse to run while a stream is being captured.

One handle for each device, with a workspace of its own (32 MiB, as Hopper wants it), so that captured graphs need not
allocate. A matrix in C order is its transpose in cuBLAS' column order, so out = op(a) @ op(b) is computed as
out^T = op(b)^T @ op(a)^T: the same operations, with a and b exchanged.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import DeviceError

WORKSPACE = 32 << 20

#: cublasMath_t: strict float32, or float32 rounded to TF32 where tensor cores multiply.
MATH_MODES = {"float32": 0, "tf32": 3}

STATUS = {
    1: "it is not initialised: the driver may be too old for it",
    3: "there is no memory for it",
    7: "an argument is invalid",
    8: "the GPU is too old",
    13: "it failed on the GPU",
    14: "it failed",
    15: "it does not do this",
}


class Cublas:
    """A handle of the library. ``workspace`` is the address of `WORKSPACE` bytes on the device, or 0."""

    def __init__(self, library: Any, workspace: int = 0):
        self.library = library
        self.handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self._workspace = workspace
        self._stream: int | None = None
        self.mode = "float32"

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise DeviceError(f"cuBLAS: {name}: {STATUS.get(status, 'error')} (status {status})")

    @property
    def version(self) -> str:
        """That of the library: ``13.1.0``."""
        found = []
        for which in range(3):  # libraryPropertyType: major, minor, patch level
            value = ctypes.c_int()
            self._call("cublasGetProperty", ctypes.c_int(which), ctypes.byref(value))
            found.append(str(value.value))
        return ".".join(found)

    def on(self, stream: int) -> None:
        """Chooses the stream, by its address, on which the products run."""
        if stream != self._stream:
            self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            if self._workspace:  # a change of stream takes it away
                size = ctypes.c_size_t(WORKSPACE)
                self._call("cublasSetWorkspace_v2", self.handle, ctypes.c_void_p(self._workspace), size)
            self._stream = stream

    def set_math_mode(self, mode: str) -> None:
        """ "float32" for exact products, "tf32" for quick ones."""
        if mode not in MATH_MODES:
            raise DeviceError(f'math_mode "{mode}": there are {", ".join(MATH_MODES)}')
        if mode != self.mode:
            self._call("cublasSetMathMode", self.handle, ctypes.c_int(MATH_MODES[mode]))
            self.mode = mode

    @contextlib.contextmanager
    def math(self, mode: str) -> Iterator[None]:
        """For a while, that mode."""
        before = self.mode
        self.set_math_mode(mode)
        try:
            yield
        finally:
            self.set_math_mode(before)

    def gemm(self, a: Any, b: Any, out: Any, ta: bool, tb: bool, alpha: float, beta: float) -> None:
        """out (M, N) = alpha * op(a) @ op(b) + beta * out, for C-contiguous matrices of one type that fit."""
        rows, columns = out.shape
        inner = a.shape[0] if ta else a.shape[1]
        if not rows or not columns:
            return
        single, real = _kind(out)
        factors = ctypes.byref(real(alpha)), ctypes.byref(real(beta))
        self._call(
            "cublasSgemm_v2" if single else "cublasDgemm_v2",
            self.handle,
            *_operations(ta, tb, rows, columns, inner),
            factors[0],
            *_matrix(b, max(1, b.shape[1])),
            *_matrix(a, max(1, a.shape[1])),
            factors[1],
            *_matrix(out, columns),
        )

    def gemm_batch(
        self,
        a: Any,
        b: Any,
        out: Any,
        shape: tuple[int, int, int],
        steps: Sequence[int],
        number: int,
        ta: bool,
        tb: bool,
    ) -> None:
        """``number`` products of (M, N, K) = ``shape``; each is ``steps`` elements behind the last, in a, b and out."""
        rows, columns, inner = shape
        if not (rows and columns and number):
            return
        single, real = _kind(out)
        factors = ctypes.byref(real(1)), ctypes.byref(real(0))
        step_a, step_b, step_out = (ctypes.c_longlong(step) for step in steps)
        self._call(
            "cublasSgemmStridedBatched" if single else "cublasDgemmStridedBatched",
            self.handle,
            *_operations(ta, tb, rows, columns, inner),
            factors[0],
            *_matrix(b, max(1, inner if tb else columns)),
            step_b,
            *_matrix(a, max(1, rows if ta else inner)),
            step_a,
            factors[1],
            *_matrix(out, columns),
            step_out,
            ctypes.c_int(number),
        )


def _kind(out: Any) -> tuple[bool, Any]:
    single = out.dtype == np.float32
    return single, ctypes.c_float if single else ctypes.c_double


def _operations(ta: bool, tb: bool, rows: int, columns: int, inner: int) -> tuple[Any, ...]:
    """cuBLAS' first arguments, the matrices being exchanged: op(b), op(a), N, M, K."""
    return (ctypes.c_int(tb), ctypes.c_int(ta), ctypes.c_int(columns), ctypes.c_int(rows), ctypes.c_int(inner))


def _matrix(array: Any, row: int) -> tuple[Any, Any]:
    return ctypes.c_void_p(array.data.ptr), ctypes.c_int(row)
