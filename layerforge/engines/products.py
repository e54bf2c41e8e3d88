"""The products of a fully connected layer: y = x W^T + b, dW += dy^T x, dx = dy W.

x (M, K), y (M, N), and weights W (N, K), or (K, N) where ``transposed``. BLAS is always there; a GPU has kernels of our
own for small y. The engine for x86-64 takes oneDNN, and with AVX-512 kernels of our own where a large matrix is used
only once, which no copy into panels pays for: csrc/cpu/products_avx512.h. The figures are in
docs/decisions/012-products.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import device as devices
from ..device.cpu import cpu
from ..errors import KernelError
from ..kernels import Kernels
from ..native import _csrc
from . import onednn

B = Kernels("broadcast.h")
K = Kernels("inner_product.h")


class Products:
    """By the device's BLAS, in float32 and float64."""

    name = "CAFFE"

    def supports(self, dtype: Any) -> bool:
        return True

    def scratch(self, batch: int, values: int, outputs: int) -> int:
        """Elements of scratch for `forward` and `backward_weights`: of x (batch, values) and y (batch, outputs)."""
        return 0

    def needs_workspace(self, rows: int, values: int, outputs: int) -> bool:
        """Whether products of these sizes need the one that the device has: no two of them run at once."""
        return True

    def forward(
        self, x: Any, w: Any, b: Any, y: Any, transposed: bool, scratch: Any, *, slope: float | None = None
    ) -> None:
        """y = x W^T + b; ``b`` may be None. With a ``slope``, and a bias, that rectified: slope t where t <= 0."""
        self._gemm(x, w, y, False, not transposed)  # (M, K) @ (K, N)
        if slope is not None:
            K.shift_and_rectify(b, y, b.size, slope)
        elif b is not None:
            B.shift(y, b, y, b.size, 1)

    def backward_weights(self, x: Any, dy: Any, dw: Any, transposed: bool, scratch: Any, *, add: bool = True) -> None:
        """dW += dy^T x, the gradient of the weights; overwritten where it is not to ``add``."""
        first, second = (x, dy) if transposed else (dy, x)
        self._gemm(first, second, dw, True, False, float(add))  # (N, M) @ (M, K)

    def backward_data(self, dy: Any, w: Any, dx: Any, transposed: bool) -> None:
        """dx = dy W, the gradient of the input, overwritten."""
        self._gemm(dy, w, dx, False, transposed)  # (M, N) @ (N, K)

    def _gemm(self, a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool, beta: float = 0.0) -> None:
        devices.of(out).gemm(a, b, out, transpose_a, transpose_b, beta=beta)


class FewProducts(Products):
    """By our own kernels where y has few columns and rows, on a GPU; elsewhere by cuBLAS, which needs a workspace, and
    another launch for the bias. What they read more often than cuBLAS would comes from the cache, 16 MiB at most."""

    def needs_workspace(self, rows: int, values: int, outputs: int) -> bool:
        return not (outputs <= 16 and rows <= 256 and rows * outputs <= 2048 and 0 < values <= 1024)

    def forward(
        self, x: Any, w: Any, b: Any, y: Any, transposed: bool, scratch: Any, *, slope: float | None = None
    ) -> None:
        if self.needs_workspace(len(x), x.shape[1], y.shape[1]):
            super().forward(x, w, b, y, transposed, scratch, slope=slope)
        else:
            K.few_outputs(x, w, b, y, x.shape[1], y.shape[1], transposed, 1 if slope is None else slope)

    def backward_weights(self, x: Any, dy: Any, dw: Any, transposed: bool, scratch: Any, *, add: bool = True) -> None:
        if self.needs_workspace(len(x), x.shape[1], dy.shape[1]):
            super().backward_weights(x, dy, dw, transposed, scratch, add=add)
        else:
            K.few_outputs_weights(x, dy, dw, len(x), x.shape[1], dy.shape[1], transposed, add)

    def backward_data(self, dy: Any, w: Any, dx: Any, transposed: bool) -> None:
        if self.needs_workspace(len(dx), dx.shape[1], dy.shape[1]):
            super().backward_data(dy, w, dx, transposed)
        else:
            K.few_outputs_data(dy, w, dx, dx.shape[1], dy.shape[1], transposed)


class OneDnnProducts(Products):
    """By oneDNN and our own kernels, on the CPU in float32. Sums do not depend on who else runs."""

    name = "MKLDNN"

    def __init__(self, own: bool = True):
        """``own=False``: without our own kernels."""
        self.own = own and hasattr(_csrc, "product_forward")

    def supports(self, dtype: Any) -> bool:
        return dtype == np.float32 and onednn.available()

    def scratch(self, batch: int, values: int, outputs: int) -> int:
        return max(_of_forward(batch, values), _of_backward(batch, outputs)) if self.own else 0

    def forward(
        self, x: Any, w: Any, b: Any, y: Any, transposed: bool, scratch: Any, *, slope: float | None = None
    ) -> None:
        if not self.own or transposed or not x.size or slope is not None:
            super().forward(x, w, b, y, transposed, scratch, slope=slope)
            return
        cpu.check_gemm(x, w, y, False, True)
        _require("forward", scratch, _of_forward(*x.shape))
        _csrc.product_forward(x, w, b, y, scratch)

    def backward_weights(self, x: Any, dy: Any, dw: Any, transposed: bool, scratch: Any, *, add: bool = True) -> None:
        if not self.own or transposed or not x.size or not add:
            super().backward_weights(x, dy, dw, transposed, scratch, add=add)
            return
        cpu.check_gemm(dy, x, dw, True, False)
        _require("backward_weights", scratch, _of_backward(*dy.shape))
        _csrc.product_backward_weights(x, dy, dw, scratch)

    def _gemm(self, a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool, beta: float = 0.0) -> None:
        cpu.check_gemm(a, b, out, transpose_a, transpose_b)
        if not out.size:
            return
        if a.size:
            _csrc.onednn_gemm(a, b, out, transpose_a, transpose_b, beta)
        elif not beta:
            out[...] = 0


def _of_forward(batch: int, values: int) -> int:
    """Elements of scratch: more than 4 rows of x are transposed, up to 48 at a time, in vectors of 16 of them."""
    return min(batch + -batch % 16, 48) * values if batch > 4 else 0


def _of_backward(batch: int, outputs: int) -> int:
    """Elements of scratch: up to 128 rows of dy at a time, of which 6 values stand side by side."""
    return min(batch, 128) * (outputs + 6)


def _require(method: str, scratch: Any, least: int) -> None:
    if scratch.size < least:
        raise KernelError(f"{method}: scratch must have {least} elements, not {scratch.size}")
