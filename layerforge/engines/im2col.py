"""The engine that is always there: columns of patches, and one matrix product for a tile of them.

y (M, P) = W (M, K) @ columns (K, P), where K = channels / group * kernel... and P are output positions; the gradients
are the products dcolumns = W^T @ dy and dW = dy @ columns^T. Where the processor has vectors for it, columns of float32
are written straight into the panels of our own products (csrc/cpu/panels.cpp, docs/decisions/011-panels.md); otherwise
into memory, and BLAS multiplies (csrc/cpu/convolution.cpp). K. Chellapilla, S. Puri, P. Simard: High performance
convolutional neural networks, 2006.
"""

from __future__ import annotations

import numpy as np

from ..native import _csrc
from .engine import Engine

FORWARD, DATA, WEIGHTS = range(3)


class Im2col(Engine):
    """Convolution on the CPU by im2col. One way of adding up: the same threads give the same bits."""

    name = "CAFFE"
    dtypes = (np.float32, np.float64)

    def supports(self, g, dtype):
        return True  # every geometry, in float32 and float64

    def scratch(self, g):
        return int(_csrc.convolution_scratch(g.numbers))

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        self._check(g, scratch, x=x, w=w, b=b, y=y)
        _csrc.convolution(FORWARD, g.numbers, x, w, b, y, scratch)

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        self._check(g, scratch, dy=dy, w=w, dx=dx)
        _csrc.convolution(DATA, g.numbers, dy, w, dx, None, scratch)

    def backward_weights(self, x, dy, dw, db, g, scratch):
        self._check(g, scratch, x=x, dy=dy, dw=dw, db=db)
        _csrc.convolution(WEIGHTS, g.numbers, x, dy, dw, db, scratch)
