"""Depthwise convolution in blocks of 16 channels, by kernels of our own: each plane once through the first cache.

Such a convolution waits for memory, as do the batch normalisations around it. So where a backward pass follows, it
normalises what it reads, counts what it writes, and computes all its gradients in one pass; see
docs/decisions/010-fusion.md. What has no such neighbours is left to oneDNN. Needs AVX-512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..native import _csrc
from .engine import LANES
from .geometry import Geometry
from .onednn import OneDnn


class Depthwise(OneDnn):
    """Convolutions of two spatial axes in which each output channel sees the input channel of its number."""

    name = "Depthwise"
    joins_neighbours = True

    def supports(self, g, dtype):
        if not hasattr(_csrc, "depthwise_forward") or self.block != (LANES, LANES) or len(g.spatial) != 2:
            return False
        taps, stride = _csrc.depthwise_most
        fits = g.kernel[0] * g.kernel[1] <= taps and max(g.stride) <= stride
        return fits and g.channels == g.group == g.num_output and super().supports(g, dtype)

    def rectifies(self, g, bias):
        return False

    def scratch(self, g):
        return max(super().scratch(g), _csrc.depthwise_scratch(g.numbers))

    def forward_between(self, x, w, b, y, g, scratch, before=None, moments=None):
        self._check(g, scratch, x=x, w=w, b=b, y=y)
        rows = (None, None) if moments is None else moments
        _csrc.depthwise_forward(g.numbers, x, w, b, y, scratch, _before(before), *rows)

    def backward(self, x, dy, w, dx, dw, db, g, scratch, before=None, sums=None, behind=None):
        self._check(g, scratch, x=x, dy=dy, w=w, dx=dx, dw=dw, db=db)
        rows, around = (None, None) if sums is None else sums, _before(before)
        _csrc.depthwise_backward(g.numbers, x, dy, w, dx, dw, db, scratch, around, *rows, _behind(behind))

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        self.backward(dx, dy, w, dx, None, None, g, scratch)  # x is not needed

    def backward_weights(self, x, dy, dw, db, g, scratch):
        self.backward(x, dy, dw, None, dw, db, g, scratch)  # nor is w

    def _used(self, g: Geometry, forward: str, data: str, weights: str) -> Sequence[str]:
        return (forward,)


def _before(p: Any) -> Any:
    return _csrc.Before() if p is None else _csrc.Before(p.mean, p.scale, p.weight, p.bias, p.slope)


def _behind(b: Any) -> Any:
    return _csrc.Behind() if b is None else _csrc.Behind(_before(b.of), b.of.values, b.sum, b.dot, b.number)
