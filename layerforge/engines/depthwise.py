"""Depthwise convolution in blocks of 16 channels, by kernels of our own: each plane once through the first cache.

Such a convolution waits for memory, as do the batch normalisations around it. So where a backward pass follows, it
normalises what it reads, counts what it writes, and computes all its gradients in one pass; see
docs/decisions/010-fusion.md. What has no such neighbours is left to oneDNN. Needs AVX-512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..native import _csrc
from .geometry import Geometry
from .onednn import LANES, OneDnn


class Depthwise(OneDnn):
    """Convolutions of two spatial axes in which each output channel sees the input channel of its number."""

    name = "Depthwise"

    def supports(self, geometry: Geometry, dtype: Any) -> bool:
        g = geometry
        if not hasattr(_csrc, "depthwise_forward") or self.block != (LANES, LANES) or len(g.spatial) != 2:
            return False
        taps, stride = _csrc.depthwise_most
        fits = g.kernel[0] * g.kernel[1] <= taps and max(g.stride) <= stride
        return fits and g.channels == g.group == g.num_output and super().supports(g, dtype)

    def rectifies(self, geometry: Geometry, bias: bool) -> bool:
        return False

    def scratch(self, geometry: Geometry) -> int:
        return max(super().scratch(geometry), _csrc.depthwise_scratch(geometry.numbers))

    def forward_between(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
        before: Any = None,
        moments: Any = None,
    ) -> None:
        """y = w * x + b, with x normalised as ``before`` says, a `Pending`.

        ``moments`` (2, batch channels) gets the mean of each channel of an image of y, and its sum of squares about it.
        """
        self._check(geometry, scratch, x=x, w=w, b=b, y=y)
        rows = (None, None) if moments is None else moments
        _csrc.depthwise_forward(geometry.numbers, x, w, b, y, scratch, _before(before), *rows)

    def backward(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        w: np.ndarray,
        dx: np.ndarray | None,
        dw: np.ndarray | None,
        db: np.ndarray | None,
        geometry: Geometry,
        scratch: np.ndarray,
        before: Any = None,
        sums: Any = None,
        behind: Any = None,
    ) -> None:
        """dx = the gradient of what was convolved, dw += and db += those of the weights and the bias; each may be None.

        With ``before``, ``sums`` (2, batch channels) gets the sums over each channel of an image of dz and of dz
        (x - mean), with dz the gradient before the rectifier. ``behind``, a `Behind`, makes the gradient of y of dy.
        """
        self._check(geometry, scratch, x=x, dy=dy, w=w, dx=dx, dw=dw, db=db)
        rows, around = (None, None) if sums is None else sums, _before(before)
        _csrc.depthwise_backward(geometry.numbers, x, dy, w, dx, dw, db, scratch, around, *rows, _behind(behind))

    def backward_data(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, scratch: np.ndarray
    ) -> None:
        self.backward(dx, dy, w, dx, None, None, geometry, scratch)  # x is not needed

    def backward_weights(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray | None,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        self.backward(x, dy, dw, None, dw, db, geometry, scratch)  # nor is w

    def _used(self, geometry: Geometry, forward: str, data: str, weights: str) -> Sequence[str]:
        return (forward,)


def _before(p: Any) -> Any:
    return _csrc.Before() if p is None else _csrc.Before(p.mean, p.scale, p.weight, p.bias, p.slope)


def _behind(b: Any) -> Any:
    return _csrc.Behind() if b is None else _csrc.Behind(_before(b.of), b.of.values, b.sum, b.dot, b.number)
