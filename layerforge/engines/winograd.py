"""Convolution of 3x3 taps by Winograd's minimal filtering, on processors with AVX-512.

A quarter of the multiplications. Channels lie in blocks; plain arrays are copied. The figures are in
docs/decisions/015-winograd.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..native import _csrc
from .geometry import Geometry
from .onednn import LANES, OneDnn

TILE = 4  # outputs along each axis
# What else there is to do, in multiplications: for a tile's channel on either side; to read a transformed weight's 36
# values from memory, once in a pass.
OF_TILE, OF_WEIGHTS = 300, 900
MANY_TO_COPY = 1 << 25  # values of a plain array


class Winograd(OneDnn):
    """Convolution on the CPU by F(4x4, 3x3). The same bits with any number of threads.

    With hundreds of channels its errors are twice as large as oneDNN's, a few 1e-6 of the largest value.
    """

    name = "Winograd"

    @staticmethod
    def gain(geometry: Geometry, dtype: Any) -> float:
        """See `OneDnn.gain`: nothing, where this engine computes it, and else what oneDNN gains."""
        return 0.0 if Winograd((LANES, LANES)).supports(geometry, dtype) else OneDnn.gain(geometry, dtype)

    def supports(self, geometry: Geometry, dtype: Any) -> bool:
        """Whether this engine computes that geometry, and faster than oneDNN does."""
        there = dtype == np.float32 and hasattr(_csrc, "WinogradConvolution")
        return there and self._fits(geometry) and is_faster(geometry)

    def _fits(self, g: Geometry) -> bool:
        """Whether the kernels compute it, faster or not."""
        sides = zip(self.block, (g.channels, g.num_output), strict=True)
        lies = all(block in (1, LANES, channels) for block, channels in sides)
        whole = g.channels // g.group % LANES == 0 and g.num_output // g.group % LANES == 0
        taps = g.kernel == (3, 3) and g.stride == g.dilation == (1, 1) and max(g.pad) <= 2
        copies = zip(self.block, (g.input_shape, g.output_shape), strict=True)
        few = all(block > 1 or math.prod(shape) <= MANY_TO_COPY for block, shape in copies)
        return lies and whole and taps and few and g.batch > 0

    def scratch(self, geometry: Geometry) -> int:
        """Elements of scratch memory for any of the three functions, with the present number of threads."""
        return int(self._convolution(geometry).scratch)

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
        kept: np.ndarray | None = None,
        *,
        rectify: bool = False,
    ) -> Callable[[], None]:
        """y = w * x + b; ``b`` may be None. Returns and takes what `OneDnn.forward` does."""
        return self._forward(x, w, b, y, geometry, scratch, kept=kept, rectify=rectify)

    def rectifies(self, geometry: Geometry, bias: bool) -> bool:
        return True

    def kept(self, geometry: Geometry) -> int:
        """How many elements weights take that stay transformed from one forward pass to the next: four times theirs."""
        return int(self._convolution(geometry).kept)

    def follows(self, geometry: Geometry) -> bool:
        """Whether `forward_and_on` computes that geometry."""
        return True

    def adds(self, geometry: Geometry) -> bool:
        """Whether it also adds a term."""
        return self.block[1] > 1

    def adds_in_place(self, geometry: Geometry) -> bool:
        """The same for a term that lies in y."""
        return self.block[1] > 1

    def forward_and_on(
        self,
        x: np.ndarray,
        w: np.ndarray,
        factor: np.ndarray,
        shift: np.ndarray,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
        kept: np.ndarray | None = None,
        *,
        rectify: bool,
        term: np.ndarray | None = None,
    ) -> Callable[[], None]:
        """y = factor * (w * x) + shift for each output channel, and ``term``; with ``rectify``, max(0, that).

        ``term`` may be y. The weights are multiplied by the factor. Returns as `forward` does.
        """
        if term is not None:
            self._check(geometry, scratch, y=term)
        return self._forward(x, w, shift, y, geometry, scratch, factor=factor, kept=kept, term=term, rectify=rectify)

    @property
    def differentiates_rectifiers(self) -> bool:
        """Whether `backward_data` takes ``rectified``."""
        return self.block[0] > 1

    def backward_data(
        self,
        dy: np.ndarray,
        w: np.ndarray,
        dx: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
        *,
        rectified: np.ndarray | None = None,
        slope: float = 1.0,
    ) -> None:
        """dx = the gradient of the input, overwritten. With ``rectified``, the input, which a rectifier with that slope
        made: the gradient of what it made it of."""
        self._check(geometry, scratch, dy=dy, w=w, dx=dx)
        if rectified is not None:
            self._check(geometry, scratch, x=rectified)
        self._convolution(geometry).backward_data(dy, w, dx, scratch, rectified, slope)

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
        self._convolution(geometry).backward_weights(x, dy, dw, db, scratch)

    def _forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
        **more: Any,
    ) -> Callable[[], None]:
        self._check(geometry, scratch, x=x, w=w, b=b, y=y)
        made = self._convolution(geometry)
        if more["kept"] is not None and more["kept"].size < made.kept:
            more["kept"] = None
        made.forward(x, w, b, y, scratch, **more)
        return functools.partial(made.forward, x, w, b, y, scratch, **more, same=True)

    def _convolution(self, geometry: Geometry) -> Any:
        return _convolution(geometry, self.block, _csrc.get_threads())


def is_faster(g: Geometry) -> bool:
    """Whether what is saved is more than what the transforms take: not for few positions, nor for few channels."""
    tiles = g.batch * math.prod(-(-size // TILE) for size in g.output)
    weights = g.channels // g.group * g.num_output
    more = OF_TILE * tiles * (g.channels + g.num_output) + OF_WEIGHTS * weights
    return (TILE + 2) ** 2 * tiles * weights + more < g.multiplications


@functools.lru_cache(maxsize=4096)
def _convolution(geometry: Geometry, block: tuple[int, int], threads: int) -> Any:
    return _csrc.WinogradConvolution(geometry.numbers, *block, threads)
