"""Batches of images as bytes, for a GPU that transforms them itself.

The host only copies bytes and decides where each image is cropped and whether it is mirrored; the rest is one kernel,
which computes what `Transformer` computes, bit for bit. The bytes lie in memory from which the GPU copies by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels import Kernels
from ..native import _csrc
from .decode import Image
from .transform import NUMBERS, Transformer

K = Kernels("transform.h")

Pinned = Callable[[Sequence[int], Any], np.ndarray]


class RawBatch:
    """``pixels`` (N, capacity), ``windows`` (N, 6), ``labels``; ``shape`` (N, C, H, W) is what becomes of the images.

    Images that are no bytes, or more than `capacity`, are transformed on the host, and lie in ``apart`` by place.
    """

    def __init__(self, pinned: Pinned, capacity: int, shape: tuple[int, ...], label_shape: tuple[int, ...]):
        self.shape = shape
        self.size = shape[2], shape[3]  # of what becomes of an image
        self.pixels = pinned((shape[0], capacity), np.uint8)
        self.windows = pinned((shape[0], NUMBERS), np.int32)
        self.labels = np.empty((shape[0], *label_shape), np.float64)
        self.apart: dict[int, np.ndarray] = {}

    def put(self, place: int, image: Image, transformer: Transformer, index: int) -> None:
        """Lays down an image, of the running number ``index``."""
        pixels = image.pixels
        if pixels.dtype == np.uint8 and pixels.size <= self.pixels.shape[1]:
            self.pixels[place, : pixels.size] = pixels.reshape(-1)
            transformer.windows(self.windows[place : place + 1], image.shape, image.interleaved, self.size, index)
            self.apart.pop(place, None)
            return
        self.apart[place] = np.empty(self.shape[1:], np.float32)
        self.windows[place] = (*self.size, 0, 0, 0, 0)
        transformer(image, self.apart[place], index)

    def copy(
        self, place: int, values: list[Any], image: tuple[int, int, int], transformer: Transformer, index: int
    ) -> Sequence[int]:
        """Lays down images, and labels, of one shape from records as they are stored, the first of them of the running
        number ``index``, at ``place`` and behind it. Returns which are no bytes in this shape, and so were left out."""
        part = np.s_[place : place + len(values)]
        left: list[int] = _csrc.copy_records(values, image, self.pixels[part], self.labels[part])
        transformer.windows(self.windows[part], image, False, self.size, index)
        if self.apart:
            for i in range(place, place + len(values)):
                self.apart.pop(i, None)
        return left


class Uploads:
    """The way of such batches to a device: while one is computed with, the next one is copied."""

    def __init__(self, device: Any):
        self.device = device
        self._turn = 0
        self._buffers: list[Any] = [None, None]  # of each: arrays, and since when nobody reads them
        self._wait: Callable[[], None] | None = None

    def settle(self) -> None:
        """Waits until the last batch may be overwritten."""
        if self._wait is not None:
            self._wait()
            self._wait = None

    def send(self, batch: RawBatch, y: Any, transformer: Transformer) -> None:
        """Copies a batch to the device and transforms it there; ``y`` (N, C, H, W)."""
        device, (_, channels, height, width) = self.device, batch.shape
        self._turn = 1 - self._turn
        buffer = self._buffers[self._turn]
        if buffer is None or buffer[0].shape != batch.pixels.shape:
            arrays = device.empty(batch.pixels.shape, np.uint8), device.empty(batch.windows.shape, np.int32)
            buffer = self._buffers[self._turn] = [*arrays, device.mark()]
        pixels, windows, free = buffer
        device.upload(windows, batch.windows, free)
        self._wait = device.upload(pixels, batch.pixels, free)
        means = transformer.channel_means(channels)
        K.transform_batch(
            pixels, windows, y,
            None if transformer.mean_image is None else device.constant(transformer.mean_image),
            None if means is None else device.constant(means),
            transformer.scale, channels, height, width, batch.pixels.shape[1],
        )  # fmt: skip
        buffer[2] = device.mark()
        for place, values in batch.apart.items():
            device.from_numpy(y[place], values)
