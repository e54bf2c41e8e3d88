"""Convolution of 3x3 taps by Winograd's minimal filtering, on processors with AVX-512.

A quarter of the multiplications. Channels lie in blocks; plain arrays are copied. The figures are in
docs/decisions/015-winograd.md.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..native import _csrc
from .engine import LANES, Engine
from .geometry import Geometry

TILE = 4  # outputs along each axis
# What else there is to do, in multiplications: for a tile's channel on either side; to read a transformed weight's 36
# values from memory, once in a pass.
OF_TILE, OF_WEIGHTS = 300, 900
MANY_TO_COPY = 1 << 25  # values of a plain array


class Winograd(Engine):
    """Convolution on the CPU by F(4x4, 3x3). The same bits with any number of threads.

    With hundreds of channels its errors are twice as large as oneDNN's, a few 1e-6 of the largest value.
    """

    name = "Winograd"
    takes_blocks = True

    def __init__(self, block: tuple[int, int] = (1, 1)):
        super().__init__(block)
        self.differentiates_rectifiers = block[0] > 1

    def gain(self, g, dtype):
        return 0.0 if Winograd((LANES, LANES)).supports(g, dtype) else None

    def supports(self, g, dtype):
        there = dtype == np.float32 and hasattr(_csrc, "WinogradConvolution")
        return there and self._fits(g) and is_faster(g)

    def _fits(self, g: Geometry) -> bool:
        """Whether the kernels compute it, faster or not."""
        sides = zip(self.block, (g.channels, g.num_output), strict=True)
        lies = all(block in (1, LANES, channels) for block, channels in sides)
        whole = g.channels // g.group % LANES == 0 and g.num_output // g.group % LANES == 0
        taps = g.kernel == (3, 3) and g.stride == g.dilation == (1, 1) and max(g.pad) <= 2
        copies = zip(self.block, (g.input_shape, g.output_shape), strict=True)
        few = all(block > 1 or math.prod(shape) <= MANY_TO_COPY for block, shape in copies)
        return lies and whole and taps and few and g.batch > 0

    def scratch(self, g):
        return int(self._convolution(g).scratch)

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        return self._forward(x, w, b, y, g, scratch, kept=kept, rectify=rectify)

    def rectifies(self, g, bias):
        return True

    def kept(self, g):
        return int(self._convolution(g).kept)  # four times as many as they have

    def follows(self, g):
        return True

    def adds(self, g):
        return self.block[1] > 1

    def adds_in_place(self, g):
        return self.block[1] > 1

    def forward_and_on(self, x, w, factor, shift, y, g, scratch, kept=None, *, rectify, term=None):
        if term is not None:
            self._check(g, scratch, y=term)
        return self._forward(x, w, shift, y, g, scratch, factor=factor, kept=kept, term=term, rectify=rectify)

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        self._check(g, scratch, dy=dy, w=w, dx=dx)
        if rectified is not None:
            self._check(g, scratch, x=rectified)
        self._convolution(g).backward_data(dy, w, dx, scratch, rectified, slope)

    def backward_weights(self, x, dy, dw, db, g, scratch):
        self._check(g, scratch, x=x, dy=dy, dw=dw, db=db)
        self._convolution(g).backward_weights(x, dy, dw, db, scratch)

    def _forward(self, x, w, b, y, g, scratch, **more):
        self._check(g, scratch, x=x, w=w, b=b, y=y)
        made = self._convolution(g)
        if more["kept"] is not None and more["kept"].size < made.kept:
            more["kept"] = None
        made.forward(x, w, b, y, scratch, **more)
        return functools.partial(made.forward, x, w, b, y, scratch, **more, same=True)

    def _convolution(self, g: Geometry) -> Any:
        return _convolution(g, self.block, _csrc.get_threads())


def is_faster(g: Geometry) -> bool:
    """Whether what is saved is more than what the transforms take: not for few positions, nor for few channels."""
    tiles = g.batch * math.prod(-(-size // TILE) for size in g.output)
    weights = g.channels // g.group * g.num_output
    more = OF_TILE * tiles * (g.channels + g.num_output) + OF_WEIGHTS * weights
    return (TILE + 2) ** 2 * tiles * weights + more < g.multiplications


@functools.lru_cache(maxsize=4096)
def _convolution(g: Geometry, block: tuple[int, int], threads: int) -> Any:
    return _csrc.WinogradConvolution(g.numbers, *block, threads)
