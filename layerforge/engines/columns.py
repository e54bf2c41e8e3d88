"""Im2col and cuBLAS: the engine of a GPU that is always there, and of the emulated device.

y (M, P) = W (M, K) @ columns (K, P) for each image, where K = channels / group * kernel... and P are output positions;
the gradients are the products dcolumns = W^T @ dy and dW = dy @ columns^T. As many images are taken at a time as have
columns that stay in the GPU's cache, and their products are one call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import device as devices
from ..kernels import Kernels
from .engine import Engine
from .geometry import Geometry

B = Kernels("broadcast.h")
K = Kernels("im2col.h")


@dataclass(frozen=True)
class Sizes:
    """The sizes of the matrices of a convolution."""

    rows: int  # of W, in a group: M
    inner: int  # K
    positions: int  # P
    columns: int  # elements of the columns of an image
    weights: int  # elements of W
    image: int  # elements of an image
    output: int  # elements of what becomes of it

    @classmethod
    def of(cls, g: Geometry) -> Sizes:
        positions, weights = math.prod(g.output), math.prod(g.weight_shape)
        inner = math.prod(g.weight_shape[1:])
        return cls(
            rows=g.num_output // g.group,
            inner=inner,
            positions=positions,
            columns=inner * g.group * positions,
            weights=weights,
            image=g.channels * math.prod(g.spatial),
            output=g.num_output * positions,
        )


class Columns(Engine):
    """Convolution by columns, in shares of the batch; ``budget`` elements of columns are made at a time."""

    name = "CAFFE"
    writes_diffs = True

    def __init__(self, budget: int):
        super().__init__()
        self.budget = budget

    def supports(self, g, dtype):
        return True  # every geometry, in float32 and float64

    def images(self, g: Geometry) -> int:
        """How many images are taken at a time."""
        return max(1, min(g.batch, self.budget // max(1, Sizes.of(g).columns)))

    def scratch(self, g):
        # Columns, and the weights' gradients of as many images; or the sums of planes.
        sizes, images = Sizes.of(g), self.images(g)
        columns = 0 if is_direct(g) else images * sizes.columns
        return max(columns + images * sizes.weights, g.batch * g.num_output)

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        s, xs, ys = Sizes.of(g), x.reshape(-1), y.reshape(-1)
        for first, images in self._shares(g):
            columns = self._columns(xs, first, images, g, scratch)
            for group, image, many, step in _batches(g, images):
                at = first + image
                devices.of(x).gemm_batch(
                    w[group * s.rows :], columns[image * s.columns + group * s.inner * s.positions :],
                    ys[at * s.output + group * s.rows * s.positions :], (s.rows, s.positions, s.inner),
                    (0, s.columns, s.output) if step == "image"
                    else (s.rows * s.inner, s.inner * s.positions, s.rows * s.positions),
                    many, False, False,
                )  # fmt: skip
        if b is not None:
            B.shift(y, b, y, g.num_output, s.positions)

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        s, dys, dxs, direct = Sizes.of(g), dy.reshape(-1), dx.reshape(-1), is_direct(g)
        for first, images in self._shares(g):
            part = dxs[first * s.image : (first + images) * s.image]
            columns = part if direct else scratch[: images * s.columns]
            for group, image, many, step in _batches(g, images):
                at = first + image
                devices.of(dy).gemm_batch(
                    w[group * s.rows :], dys[at * s.output + group * s.rows * s.positions :],
                    columns[image * s.columns + group * s.inner * s.positions :], (s.inner, s.positions, s.rows),
                    (0, s.output, s.columns) if step == "image"
                    else (s.rows * s.inner, s.rows * s.positions, s.inner * s.positions),
                    many, True, False,
                )  # fmt: skip
            if not direct:
                K.col2im(columns, part, _shape(dy, g))

    def backward_weights(self, x, dy, dw, db, g, scratch, *, add=(True, True)):
        adds_weights, adds_bias = add
        s, xs, dys = Sizes.of(g), x.reshape(-1), dy.reshape(-1)
        behind = 0 if is_direct(g) else self.images(g) * s.columns
        for first, images in self._shares(g):
            columns = self._columns(xs, first, images, g, scratch)
            sums = scratch[behind : behind + images * s.weights]
            for group, image, many, step in _batches(g, images):
                at = first + image
                devices.of(x).gemm_batch(
                    dys[at * s.output + group * s.rows * s.positions :],
                    columns[image * s.columns + group * s.inner * s.positions :],
                    sums[image * s.weights + group * s.rows * s.inner :], (s.rows, s.inner, s.positions),
                    (s.output, s.columns, s.weights) if step == "image"
                    else (s.rows * s.positions, s.inner * s.positions, s.rows * s.inner),
                    many, False, True,
                )  # fmt: skip
            B.sum_columns(sums, dw, images, s.weights, adds_weights)
            adds_weights = True
        if not adds_weights:  # an empty batch
            dw.fill(0)
        if db is not None:
            sum_channels(dy, db, scratch, adds_bias)

    def _shares(self, g: Geometry) -> Iterator[tuple[int, int]]:
        """The first image of each share of the batch, and how many there are."""
        images = self.images(g)
        for first in range(0, g.batch, images):
            yield first, min(images, g.batch - first)

    def _columns(self, xs: Any, first: int, images: int, g: Geometry, scratch: Any) -> Any:
        """The columns of these images; without padding, strides and taps those are the images themselves."""
        s = Sizes.of(g)
        part = xs[first * s.image : (first + images) * s.image]
        if is_direct(g):
            return part
        columns = scratch[: images * s.columns]
        K.im2col(part, columns, _shape(xs, g), count=images * g.channels * s.positions)
        return columns


def sum_channels(dy: Any, db: Any, scratch: Any, add: bool = True, block: int = 1) -> None:
    """The gradient of a bias, added to db or not: the sum of dy (batch, channels, ...) over all axes but the channels'.

    dy lies plain, or in blocks; ``scratch`` must hold batch * channels elements.
    """
    batch, channels = dy.shape[:2]
    planes, positions = scratch[: batch * channels], math.prod(dy.shape[2:])
    if block == 1:
        B.sum_rows(dy, planes, positions, 1)
    else:
        B.lane_sums(dy, None, planes, positions, block)
    B.sum_columns(planes, db, batch, channels, add)


def is_direct(g: Geometry) -> bool:
    """Whether the columns of an image are the image."""
    return math.prod(g.kernel) == 1 and not any(g.pad) and g.output == g.spatial and set(g.stride) <= {1}


def _shape(array: Any, g: Geometry) -> Any:
    return devices.of(array).constant(g.shape)


def _batches(g: Geometry, images: int) -> Iterator[tuple[int, int, int, str]]:
    """Calls that together make all products: group and image of the first, how many, and what the next one is."""
    if images >= g.group:
        for group in range(g.group):
            yield group, 0, images, "image"
    else:
        for image in range(images):
            yield 0, image, g.group, "group"
