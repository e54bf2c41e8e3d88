"""cuDNN: the engine of a GPU where the package is there. What it has no plan for is computed by columns.

Weights stay in their order where x or y have their channels last: cuDNN's plans turn them round where they must.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import device as devices
from ..device import cudnn
from ..kernels import Kernels
from .columns import Columns, sum_channels
from .engine import Engine
from .geometry import Geometry, output_shape
from .turned import Turned

A = Kernels("activation.h")
B = Kernels("broadcast.h")
R = Kernels("reduce.h")


class CuDnn(Engine):
    """Convolution by cuDNN, in float32, of x and y that are each plain, (N, C, H, W), or (N, H, W, C)."""

    name = "CUDNN"
    writes_diffs = True
    takes_blocks = True

    def __init__(self, columns: Columns, block: tuple[int, int] = (1, 1)):
        super().__init__(block)
        self.columns = columns
        self.others = columns if block == (1, 1) else Turned(columns, block)
        self.last = (block[0] > 1, block[1] > 1)

    def lying(self, block):
        return CuDnn(self.columns, block)

    def supports(self, g, dtype):
        # Images and volumes, if cuDNN is there.
        whole = g.output == output_shape(g.spatial, g.kernel, g.stride, g.pad, g.dilation)
        blocks = all(
            block in (1, channels) for block, channels in zip(self.block, (g.channels, g.num_output), strict=True)
        )
        return len(g.spatial) in (2, 3) and whole and blocks and dtype == np.float32 and cudnn.available()

    def scratch(self, g):
        # The gradient of the weights before it is added, or what columns need; behind it the sums of planes.
        return self._planes(g) + g.batch * g.num_output

    def _planes(self, g: Geometry) -> int:
        return max(self.others.scratch(g), math.prod(g.weight_shape))

    def rectifies(self, g, bias):
        return bias

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        if not g.batch:
            return
        given = {"x": x, "w": w, "out": y}
        if rectify:
            if not self._run(x, "rectified", g, b=b, **given):
                self.forward(x, w, b, y, g, scratch)
                A.relu_forward(y, y, 0)
            return
        if b is not None and self._run(x, "biased", g, b=b, **given):
            return
        if not self._run(x, "forward", g, **given):
            self.others.forward(x, w, b, y, g, scratch)
        elif b is not None:
            B.shift(y, b, y, g.num_output, 1 if self.last[1] else math.prod(g.output))

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        if g.batch and not self._run(dy, "data", g, y=dy, w=w, out=dx):
            self.others.backward_data(dy, w, dx, g, scratch)

    def backward_weights(self, x, dy, dw, db, g, scratch, *, add=(True, True)):
        adds_weights, adds_bias = add
        sums = scratch[: math.prod(g.weight_shape)] if adds_weights else dw
        with devices.of(x).beside() as bias:
            if db is not None:
                sum_channels(dy, db, scratch[self._planes(g) :], adds_bias, self.block[1])
        if not g.batch or not self._run(x, "weights", g, x=x, y=dy, out=sums):
            self.others.backward_weights(x, dy, dw, None, g, scratch, add=add)
        elif adds_weights:
            R.axpy(sums, dw, 1)
        bias.join()

    def _run(self, array: Any, way: str, g: Geometry, **arrays: Any) -> bool:
        """Lets cuDNN compute on the device of that array; False where it has no plan."""
        device: Any = devices.of(array)
        pointers = {name: int(each.data.ptr) for name, each in arrays.items()}
        return device.convolve(way, g, self.last, **pointers)
