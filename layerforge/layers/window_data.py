"""WindowData."""

from __future__ import annotations

import numpy as np

from ..blob import Shape
from ..data.loader import Ahead
from ..data.transform import K, Transformer
from ..data.window_file import WindowFile
from ..data.windows import WindowBatches
from ..errors import DefinitionError, ShapeError, did_you_mean
from ..layer import Layer
from ._batches import Batches

MODES = ("warp", "square")


class WindowData(Batches, Layer):
    """Batches of windows of images, drawn at random, as R-CNN trains on them.

    ``source`` lists images and their windows, see `layerforge.data.window_file`; ``root_folder`` is put before each
    path. Tops: data (batch_size, C, crop_size, crop_size); label (batch_size). The first windows of a batch are
    background (overlap below ``bg_threshold``; label 0), the last ``fg_fraction`` of it foreground (``fg_threshold`` or
    more; label 1 and up). A window is resized to the crop, with ``context_pad`` pixels of its surroundings on each side
    and, for ``crop_mode: "square"``, its shorter side widened before; what is beyond the image is 0.
    ``transform_param`` gives ``crop_size``, ``mirror`` (every second window, by chance), the mean (of an image, the
    middle) and ``scale``.

    Which windows come follows from the seed. Threads work ``data_param.prefetch`` batches ahead; ``cache_images: true``
    keeps the files in memory. Girshick et al., CVPR 2014.

    Raises DataError for a window file that is wrong or lacks windows of one kind, and for images that cannot be read,
    with the line.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        options, transform = self.options, self.param.transform_param
        self.require_batch_size()
        crop = transform.crop_size
        if not crop:
            raise DefinitionError(
                f"{self.title}: crop_size must be at least 1: every window is resized to it",
                self.place("transform_param", "crop_size"),
            )
        if 2 * options.context_pad >= crop:
            raise DefinitionError(
                f"{self.title}: context_pad: {options.context_pad} on both sides leaves nothing of crop_size: {crop}",
                self.place("context_pad"),
            )
        if options.crop_mode not in MODES:
            raise DefinitionError(
                f'{self.title}: unknown crop_mode "{options.crop_mode}".{did_you_mean(options.crop_mode, MODES)} '
                f"There are {', '.join(MODES)}",
                self.place("crop_mode"),
            )
        if not 0 <= options.fg_fraction <= 1:
            raise DefinitionError(
                f"{self.title}: fg_fraction: {options.fg_fraction:g} must be from 0 to 1", self.place("fg_fraction")
            )
        self._transformer = self.transformer()
        with self.explained():
            file = WindowFile(options.source, options.root_folder)
            work = WindowBatches(
                file,
                options.batch_size,
                int(np.float32(options.batch_size) * np.float32(options.fg_fraction)),
                (options.fg_threshold, options.bg_threshold),
                crop,
                Paint(self._transformer, file.channels, crop),
                context=options.context_pad,
                square=options.crop_mode == "square",
                mirror=transform.mirror,
                cache=options.cache_images,
                seed=self.seed,
                stream=self.stream,
            )
        self.loader: Ahead[WindowBatches] = Ahead(work, prefetch=self.param.data_param.prefetch)


class Paint:
    """Subtracts the mean from a crop and scales it. Raises ShapeError for a mean that does not fit."""

    def __init__(self, transformer: Transformer, channels: int, crop: int):
        self.scale = transformer.scale
        self.mean_image = transformer.mean_image
        self.mean_values = transformer.mean_values
        if self.mean_values is not None:
            if len(self.mean_values) not in (1, channels):
                raise ShapeError(
                    f"mean_value is given {len(self.mean_values)} times for {channels} channels: give it once, or once "
                    "for each channel"
                )
            self.mean_values = np.broadcast_to(self.mean_values, (channels,)).copy()
        if self.mean_image is not None:
            mean_channels, height, width = self.mean_image.shape
            if mean_channels != channels or min(height, width) < crop:
                raise ShapeError(
                    f'mean_file "{transformer.mean_file}" is {self.mean_image.shape}; it must have {channels} channels '
                    f"and be at least as large as crop_size: {crop}"
                )
            top, left = (height - crop) // 2, (width - crop) // 2
            self.mean_image = np.ascontiguousarray(self.mean_image[:, top : top + crop, left : left + crop])

    def __call__(self, crop: np.ndarray, out: np.ndarray) -> None:
        channels, height, width = out.shape
        K.transform_image(
            crop, out, self.mean_image, self.mean_values, self.scale, channels, height, width, height, width, 0, 0,
            True, False,
        )  # fmt: skip
