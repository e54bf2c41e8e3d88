"""The CPU: numpy arrays in aligned memory, products by OpenBLAS on all threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DeviceError
from ..native import _csrc
from .base import Device, check_gemm


class Cpu(Device):
    """The machine's own processor and memory."""

    name = "cpu"
    is_host = True
    cache = 8 << 20

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
        self.check_gemm(a, b, out, transpose_a, transpose_b)
        _csrc.gemm(a, b, out, transpose_a, transpose_b, alpha, beta)

    @staticmethod
    def check_gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray, transpose_a: bool, transpose_b: bool) -> None:
        """Raises KernelError unless three matrices fit each other as `gemm` says."""
        check_gemm(lambda value: isinstance(value, np.ndarray), _describe, a, b, out, transpose_a, transpose_b)

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
