"""Convolution of arrays that lie in blocks of channels by an engine that knows plain order only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernels import Kernels
from .columns import Columns, Sizes
from .engine import Engine
from .geometry import Geometry

K = Kernels("turn.h")


class Turned(Engine):
    """Columns of arrays in blocks: some images at a time are turned round in scratch, before and behind.

    What cuDNN has no plan for is computed so, and everything on the emulated device, on which nets that lie as on a GPU
    can be tested.
    """

    name = "CAFFE"
    takes_blocks = True
    writes_diffs = True

    def __init__(self, columns: Columns, block: tuple[int, int] = (1, 1)):
        super().__init__(block)
        self.columns = columns

    def lying(self, block):
        return Turned(self.columns, block)

    def supports(self, g, dtype):
        return self.block != (1, 1) and dtype == np.float32

    def share(self, g: Geometry) -> Geometry:
        """As many images as have columns, inputs and outputs within the budget."""
        s = Sizes.of(g)
        images = self.columns.budget // max(1, s.columns + s.image + s.output)
        return replace(g, batch=max(1, min(g.batch, images)))

    def scratch(self, g):
        share, s = self.share(g), Sizes.of(g)
        return self.columns.scratch(share) + share.batch * (s.image + s.output)

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        for part, xs, ys, rest in self._shares(x, y, g, scratch):
            self.columns.forward(xs.read(), w, b, ys.plain, part, rest)
            ys.write()

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        for part, dxs, dys, rest in self._shares(dx, dy, g, scratch):
            self.columns.backward_data(dys.read(), w, dxs.plain, part, rest)
            dxs.write()

    def backward_weights(self, x, dy, dw, db, g, scratch, *, add=(True, True)):
        for part, xs, dys, rest in self._shares(x, dy, g, scratch):
            self.columns.backward_weights(xs.read(), dys.read(), dw, db, part, rest, add=add)
            add = True, True
        if not g.batch:
            self.columns.backward_weights(x, dy, dw, db, g, scratch, add=add)

    def _shares(self, x: Any, y: Any, g: Geometry, scratch: Any) -> Iterator[tuple[Geometry, Images, Images, Any]]:
        """Shares of the batch: their geometry, their images of x and of y, and the scratch that is left."""
        share, s = self.share(g).batch, Sizes.of(g)
        middle, end = share * s.image, share * (s.image + s.output)
        for first in range(0, g.batch, share):
            part = replace(g, batch=min(share, g.batch - first))
            images = slice(first, first + part.batch)
            xs = Images(x[images], self.block[0], scratch[:middle])
            ys = Images(y[images], self.block[1], scratch[middle:end])
            yield part, xs, ys, scratch[end:]


class Images:
    """Images that lie in blocks of channels, and room for them in plain order; where they are plain, they themselves.

    ``plain``: what stands there.
    """

    def __init__(self, lying: Any, block: int, room: Any):
        self.lying = lying
        self.block = block
        self.plain = lying if block == 1 else room[: lying.size].reshape(lying.shape)
        self.positions = math.prod(lying.shape[2:])

    def read(self) -> Any:
        """Them in plain order."""
        if self.plain is not self.lying:
            K.turn(self.lying, self.plain, self.positions, self.block)
        return self.plain

    def write(self) -> None:
        """Puts what stands in plain order where they lie."""
        if self.plain is not self.lying:
            K.turn(self.plain, self.lying, self.block, self.positions)
