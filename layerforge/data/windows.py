"""Batches of windows: how one is cut out of its image, and which are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..datum import Datum
from ..errors import DataError
from ..random import philox
from .decode import decode
from .ring import Batch, Slot, empty_batch
from .source import BadRecord
from .window_file import Window, WindowFile


class Cut(NamedTuple):
    """Which part of an image, (x, y, width, height), is resized to which ``size`` (height, width) of a crop, and where
    in the crop it lies: ``top`` and ``left``. What it leaves free is beyond the image."""

    part: tuple[int, int, int, int]
    size: tuple[int, int]
    top: int
    left: int


def cut(
    box: tuple[int, int, int, int],
    image: tuple[int, int],
    crop: int,
    *,
    context: int = 0,
    square: bool = False,
    mirror: bool = False,
) -> Cut | None:
    """How a window becomes a crop of (crop, crop) pixels; None for one that does not lie in the image.

    ``image`` is (height, width). With ``context``, the window is widened so that it fills all but so many pixels at
    each side of the crop; ``square`` widens its shorter side before. What then lies outside of the image stays empty.
    ``mirror`` says that the crop will be mirrored, and so lies at the other side.

    Numbers are rounded as Caffe's are: in float32, halves away from zero.
    """
    x1, y1, x2, y2 = box
    height, width = image
    if not context and not square:
        inside = 0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height
        return Cut((x1, y1, x2 - x1 + 1, y2 - y1 + 1), (crop, crop), 0, 0) if inside else None
    stretch = np.float32(crop) / np.float32(crop - 2 * context)
    half = [np.float32(x2 - x1 + 1) / 2, np.float32(y2 - y1 + 1) / 2]
    centre = [np.float32(x1) + half[0], np.float32(y1) + half[1]]
    if square:
        half = [max(half)] * 2
    across = _along(centre[0], half[0] * stretch, width, crop)
    down = _along(centre[1], half[1] * stretch, height, crop)
    if across is None or down is None:
        return None
    x, wide, scaled_width, before, after = across
    y, tall, scaled_height, top, _ = down
    left = after if mirror else before
    return Cut((x, y, wide, tall), (min(scaled_height, crop - top), min(scaled_width, crop - left)), top, left)


def _along(centre: Any, half: Any, length: int, crop: int) -> tuple[int, int, int, int, int] | None:
    """One axis of `cut`: begin and length of what lies in the image, its length in the crop, and the empty pixels of
    the crop before and after it."""
    begin, end = _round(centre - half), _round(centre + half)
    before, after = max(0, -begin), max(0, end - length + 1)
    inside = end - after - (begin + before) + 1
    if inside < 1:
        return None
    scale = np.float32(crop) / np.float32(end - begin + 1)
    scaled = (_round(np.float32(n) * scale) for n in (inside, before, after))
    return begin + before, inside, *scaled  # type: ignore[return-value]


def _round(value: Any) -> int:
    """The nearest integer; of two, the one further from zero."""
    number = float(value)
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


class WindowBatches:
    """The work of a loader: rows are windows, drawn at random, background first and then foreground.

    ``foreground`` is how many of each batch are foreground: windows that overlap an object by ``fg_threshold`` or more.
    Those that overlap by less than ``bg_threshold`` are background, class 0; those between are never drawn. ``paint``
    makes net input of a crop, uint8 (crop, crop, C).
    """

    label_shape: tuple[int, ...] = ()
    rows = 1

    def __init__(
        self,
        file: WindowFile,
        batch_size: int,
        foreground: int,
        thresholds: tuple[float, float],
        crop: int,
        paint: Callable[[np.ndarray, np.ndarray], None],
        *,
        context: int = 0,
        square: bool = False,
        mirror: bool = False,
        cache: bool = False,
        seed: int = 0,
        stream: int = 0,
    ):
        self.file = file
        self.batch_size = batch_size
        self.background = batch_size - foreground
        self.crop, self.paint = crop, paint
        self.context, self.square, self.mirror = context, square, mirror
        self.seed, self.stream = seed, stream
        self._files: dict[int, bytes] | None = {} if cache else None
        self._pools: tuple[list[Window], list[Window]] = ([], [])  # background, foreground
        self._sort(*(np.float32(threshold) for threshold in thresholds))

    @property
    def uri(self) -> str:
        return self.file.uri

    def _sort(self, fg_threshold: Any, bg_threshold: Any) -> None:
        for window in self.file.windows:
            if np.float32(window.overlap) >= fg_threshold:
                if window.label < 1:
                    raise DataError(
                        f"{self.uri}:{window.line}: a foreground window, of overlap {window.overlap:g}, has class "
                        f"{window.label}; classes of objects are from 1"
                    )
                self._pools[1].append(window)
            elif np.float32(window.overlap) < bg_threshold:
                self._pools[0].append(window)
        wanted = (self.background, self.batch_size - self.background)
        kinds = (
            f"an overlap below bg_threshold: {bg_threshold:g}",
            f"an overlap of fg_threshold: {fg_threshold:g} or more",
        )
        for pool, number, kind in zip(self._pools, wanted, kinds, strict=True):
            if number and not pool:
                raise DataError(
                    f'source "{self.uri}" has no window with {kind}, and {number} of the {self.batch_size} in a batch '
                    "must be such"
                )

    def open(self) -> None:
        """There is nothing to make ready."""

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.file.channels, self.crop, self.crop

    def empty(self, shape: tuple[int, ...]) -> Batch:
        return empty_batch(self.batch_size, shape, self.label_shape)

    def reseed(self, seed: int) -> None:
        self.seed = seed

    def fill(self, slot: Slot, row: int, count: int, index: int) -> None:
        import cv2

        foreground = row >= self.background
        pool = self._pools[foreground]
        words = philox(self.seed, self.stream, index, 2).tolist()
        window = pool[words[0] * len(pool) >> 32]
        mirror = self.mirror and words[1] >= 1 << 31
        image = self._image(window.image)
        place = cut(window.box, image.shape[:2], self.crop, context=self.context, square=self.square, mirror=mirror)
        if place is None:
            raise DataError(
                f"{self.uri}:{window.line}: the window from {window.box[:2]} to {window.box[2:]} must lie in "
                f'"{self.file.paths[window.image]}", which is {image.shape[1]} pixels wide and {image.shape[0]} high'
            )
        out = slot.batch.data[row]
        x, y, width, height = place.part
        tall, wide = place.size
        crop = np.zeros((self.crop, self.crop, self.file.channels), np.uint8)
        if tall > 0 and wide > 0:
            part = cv2.resize(image[y : y + height, x : x + width], (wide, tall), interpolation=cv2.INTER_LINEAR)
            part = cv2.flip(part, 1) if mirror else part
            crop[place.top : place.top + tall, place.left : place.left + wide] = part.reshape(tall, wide, -1)
        self.paint(crop, out)
        # What is beyond the image is 0: the mean, if one is subtracted.
        out[:, : place.top] = 0
        out[:, place.top + max(tall, 0) :] = 0
        out[:, :, : place.left] = 0
        out[:, :, place.left + max(wide, 0) :] = 0
        slot.batch.labels[row] = window.label if foreground else 0

    def _image(self, image: int) -> np.ndarray:
        """The pixels of an image, uint8 (H, W, C)."""
        data = self._files.get(image) if self._files is not None else None
        if data is None:
            data = self.file.read_file(image)
            if self._files is not None:
                self._files[image] = data
        try:
            return decode(Datum(data=data, encoded=True), self.file.channels == 3).pixels
        except BadRecord as error:
            raise BadRecord(f"{self.file.describe(image)}: {error.message}") from None
