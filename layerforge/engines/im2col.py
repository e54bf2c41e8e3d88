"""The engine that is always there: columns of patches, and one matrix product for a tile of them.

y (M, P) = W (M, K) @ columns (K, P), where K = channels / group * kernel... and P are output positions; the gradients
are the products dcolumns = W^T @ dy and dW = dy @ columns^T. Where the processor has vectors for it, columns of float32
are written straight into the panels of our own products (csrc/cpu/panels.cpp, docs/decisions/011-panels.md); otherwise
into memory, and BLAS multiplies (csrc/cpu/convolution.cpp). K. Chellapilla, S. Puri, P. Simard: High performance
convolutional neural networks, 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..native import _csrc
from .geometry import Geometry, check_arrays

FORWARD, DATA, WEIGHTS = range(3)


class Im2col:
    """Convolution on the CPU by im2col. One way of adding up: the same threads give the same bits."""

    name = "CAFFE"

    def supports(self, geometry: Geometry, dtype: Any) -> bool:
        """Every geometry, in float32 and float64."""
        return True

    def scratch(self, geometry: Geometry) -> int:
        """Elements of scratch memory for any of the three functions, with the present number of threads."""
        return int(_csrc.convolution_scratch(geometry.numbers))

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """y = w * x + b; ``b`` may be None."""
        self._check(geometry, scratch, x=x, w=w, b=b, y=y)
        _csrc.convolution(FORWARD, geometry.numbers, x, w, b, y, scratch)

    def follows(self, geometry: Geometry) -> bool:
        """Whether what is behind a convolution is computed with it, as by `layerforge.engines.onednn`: no."""
        return False

    def adds(self, geometry: Geometry) -> bool:
        """The same for a term: no."""
        return False

    def backward_data(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, scratch: np.ndarray
    ) -> None:
        """dx = the gradient of the input, overwritten."""
        self._check(geometry, scratch, dy=dy, w=w, dx=dx)
        _csrc.convolution(DATA, geometry.numbers, dy, w, dx, None, scratch)

    def backward_weights(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray | None,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """dw += the gradient of the weights, db += that of the bias; ``db`` may be None."""
        self._check(geometry, scratch, x=x, dy=dy, dw=dw, db=db)
        _csrc.convolution(WEIGHTS, geometry.numbers, x, dy, dw, db, scratch)

    def _check(self, geometry: Geometry, scratch: np.ndarray, **arrays: np.ndarray | None) -> None:
        check_arrays(geometry, self.scratch(geometry), scratch, (np.float32, np.float64), **arrays)
