"""The transformer: crop, mirror, subtract the mean, scale, as ``transform_param`` says."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import wire
from ..datum import Datum
from ..errors import DataError, DefinitionError, ShapeError
from ..kernels import Kernels
from .decode import Image, decode

K = Kernels("transform.h")
TRAIN = 0
NUMBERS = 6  # that `Transformer.windows` gives of each record


class Transformer:
    """y = (x - mean) * scale over a crop of x, mirrored or not.

    The crop (``crop_size``, or ``crop_h`` and ``crop_w``) lies anywhere in phase TRAIN, in the middle in phase TEST;
    ``mirror`` turns every second image left to right by chance, in both phases as in Caffe. The mean is an image
    (``mean_file``), of which each pixel loses its own, or ``mean_value``, one or one for each channel. ``force_color``
    and ``force_gray`` concern encoded records, and so does ``size``: (height, width) that they are resized to first.

    What is random follows from (seed, stream, index): the same for a record whatever thread works on it. Raises
    DefinitionError for options that exclude each other.
    """

    def __init__(self, options: Any, phase: int, seed: int = 0, stream: int = 0):
        self.random_crop = phase == TRAIN
        self.seed, self.stream = seed, stream
        self.mirror: bool = options.mirror
        self.scale: float = options.scale
        self.crop: tuple[int, int] | None = _crop(options)
        if options.force_color and options.force_gray:
            raise DefinitionError("force_color and force_gray exclude each other: write one of them")
        self.color: bool | None = True if options.force_color else False if options.force_gray else None
        self.size: tuple[int, int] | None = None
        if options.mean_file and options.mean_value:
            raise DefinitionError("mean_file and mean_value exclude each other: write one of them")
        self.mean_file: str = options.mean_file
        self.mean_image: np.ndarray | None = _mean_image(options.mean_file) if options.mean_file else None
        self.mean_values: np.ndarray | None = None
        if options.mean_value:
            self.mean_values = np.array(options.mean_value, np.float32)

    def decode(self, datum: Datum) -> Image:
        """The record's image, in colour or grey as the options say."""
        return decode(datum, self.color, self.size)

    def output_shape(self, image: Image | Datum) -> tuple[int, int, int]:
        """(C, H, W) of what becomes of a record. Raises ShapeError where the options do not fit it."""
        if isinstance(image, Datum):
            image = self.decode(image)
        channels, height, width = image.shape
        if self.mean_values is not None and len(self.mean_values) not in (1, channels):
            raise ShapeError(
                f"mean_value is given {len(self.mean_values)} times for {channels} "
                f"channel{'s' * (channels > 1)}: give it once, or once for each channel"
            )
        if self.mean_image is not None and self.mean_image.shape != image.shape:
            raise ShapeError(f'mean_file "{self.mean_file}" is {self.mean_image.shape}, but a record is {image.shape}')
        if self.crop is None:
            return image.shape
        if height < self.crop[0] or width < self.crop[1]:
            raise ShapeError(
                f"a crop of {self.crop[0]}x{self.crop[1]} is larger than a record of {height}x{width}: "
                "crop less, or make the records larger"
            )
        return channels, *self.crop

    def __call__(self, image: Image | Datum, out: np.ndarray, index: int) -> None:
        """Writes what becomes of record ``index`` to ``out``, float32 of `output_shape`."""
        if isinstance(image, Datum):
            image = self.decode(image)
        channels, height, width = out.shape
        _, image_height, image_width = image.shape
        top, left, mirror = self.window(image.shape, (height, width), index)
        if image.pixels.dtype == np.uint8:
            K.transform_image(
                image.pixels, out, self.mean_image, self.channel_means(channels), self.scale, channels, height, width,
                image_height, image_width, top, left, image.interleaved, mirror,
            )  # fmt: skip
            return
        window = np.s_[:, top : top + height, left : left + width]
        mean: Any = np.float32(0)
        if self.mean_image is not None:
            mean = self.mean_image[window]
        elif self.mean_values is not None:
            mean = self.mean_values[:, None, None]
        y = (image.pixels[window] - mean) * np.float32(self.scale)
        out[...] = y[:, :, ::-1] if mirror else y

    def window(self, image: tuple[int, int, int], out: tuple[int, int], index: int) -> tuple[int, int, bool]:
        """Where the crop of record ``index`` begins, (top, left), and whether it is mirrored."""
        numbers = np.empty((1, NUMBERS), np.int32)
        self.windows(numbers, image, False, out, index)
        _, _, top, left, _, mirror = numbers[0].tolist()
        return top, left, bool(mirror)

    def windows(
        self, numbers: np.ndarray, image: tuple[int, int, int], interleaved: bool, out: tuple[int, int], index: int
    ) -> None:
        """The same of records of one shape, from ``index`` on, as the kernel for batches wants it: (N, 6) int32 of
        height, width, top, left, interleaved, mirrored."""
        K.choose_windows(
            numbers, *image[1:], *out, interleaved, self.random_crop, self.mirror, self.seed, self.stream, index,
            count=len(numbers),
        )  # fmt: skip

    def channel_means(self, channels: int) -> np.ndarray | None:
        """``mean_value`` for each channel; None where there is none."""
        if self.mean_values is not None and len(self.mean_values) != channels:
            return np.repeat(self.mean_values, channels)
        return self.mean_values


def _crop(options: Any) -> tuple[int, int] | None:
    """(height, width) of the crop, or None for none."""
    tall, wide = getattr(options, "crop_h", 0), getattr(options, "crop_w", 0)
    if (tall or wide) and options.crop_size:
        raise DefinitionError("crop_size and crop_h, crop_w exclude each other: write crop_size, or both of the others")
    if bool(tall) != bool(wide):
        raise DefinitionError(f"crop_h is {tall} and crop_w is {wide}: give both")
    if options.crop_size:
        return options.crop_size, options.crop_size
    return (tall, wide) if tall else None


def _mean_image(path: str) -> np.ndarray:
    """The mean image of a .binaryproto as (C, H, W)."""
    try:
        mean = np.asarray(wire.read_blob(path), np.float32)
    except DataError as error:
        raise DataError(f"mean_file {error}") from error
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise DataError(f'mean_file "{path}" has shape {mean.shape}; one image, (1, C, H, W), is wanted')
    return np.ascontiguousarray(mean)
