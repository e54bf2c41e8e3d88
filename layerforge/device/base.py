"""What a device can do. Layers and nets use nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np


class Device(ABC):
    """A place for arrays, with the operations that are not kernels."""

    name: str

    @abstractmethod
    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        """An array of zeros, aligned to cache lines; a large one lies on huge pages and all its pages are present."""

    def empty(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        """An array with any content, aligned and present as that of `zeros`."""
        return self.zeros(shape, dtype)

    @abstractmethod
    def gemm(
        self,
        a: Any,
        b: Any,
        out: Any,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        """out (M, N) = alpha * op(a) (M, K) @ op(b) (K, N) + beta * out, where op transposes if asked to.

        All three are 2-D, C-contiguous and of one type, float32 or float64; else KernelError. With beta = 0, ``out`` is
        not read. All threads take part; the same number of threads gives the same bits.
        """

    @abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray:
        """The array's content on the host. On the CPU it is the array itself."""

    @abstractmethod
    def from_numpy(self, out: Any, array: np.ndarray) -> None:
        """Copies a host array into ``out``, which has its shape; types are converted."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until everything that was started is done."""

    def __repr__(self) -> str:
        return f'Device("{self.name}")'
