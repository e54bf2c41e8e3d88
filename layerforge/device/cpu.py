"""The CPU: numpy arrays in aligned memory, products by OpenBLAS on all threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _csrc
from ..errors import DeviceError, KernelError
from .base import Device


class Cpu(Device):
    """The machine's own processor and memory."""

    name = "cpu"

    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> np.ndarray:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        memory = _csrc.zeros(size)
        if memory is None:
            raise DeviceError(f"not enough memory for {size / 2**20:,.0f} MiB: an array {shape} of {dtype}")
        return memory.view(dtype).reshape(shape)

    def gemm(
        self,
        a: np.ndarray,
        b: np.ndarray,
        out: np.ndarray,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        for name, matrix in (("a", a), ("b", b), ("out", out)):
            if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not matrix.flags.c_contiguous:
                raise KernelError(
                    f"gemm: argument {name}: expected a C-contiguous matrix, received {_describe(matrix)}"
                )
        if out.dtype not in (np.float32, np.float64) or not out.flags.writeable:
            raise KernelError(
                f"gemm: argument out: expected a writable float32 or float64 matrix, received {_describe(out)}"
            )
        for name, matrix in (("a", a), ("b", b)):
            if matrix.dtype != out.dtype:
                raise KernelError(
                    f"gemm: argument {name}: expected {out.dtype} as out has, received {_describe(matrix)}"
                )
        rows, inner = a.shape[::-1] if transpose_a else a.shape
        inner_b, columns = b.shape[::-1] if transpose_b else b.shape
        if inner != inner_b or out.shape != (rows, columns):
            raise KernelError(
                f"gemm: op(a) is ({rows}, {inner}) and op(b) is ({inner_b}, {columns}); "
                f"out must be ({rows}, {columns}) and the inner sizes equal, but out is {out.shape}"
            )
        _csrc.gemm(a, b, out, transpose_a, transpose_b, alpha, beta)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def from_numpy(self, out: np.ndarray, array: np.ndarray) -> None:
        if out.shape != np.shape(array):
            raise DeviceError(f"from_numpy: an array {np.shape(array)} does not fit one of shape {out.shape}")
        out[...] = array

    def synchronize(self) -> None:
        """Nothing to wait for: every call returns when its work is done."""


def _describe(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    layout = "" if value.flags.c_contiguous else ", not C-contiguous,"
    writable = "" if value.flags.writeable else "a read-only "
    return f"{writable}{value.dtype} array{layout} of shape {value.shape}"


cpu = Cpu()
