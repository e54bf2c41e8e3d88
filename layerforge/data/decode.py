"""A Datum's image: decoded where it is a JPEG or PNG, else a view of its bytes or floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..datum import Datum
from .source import BadRecord


@dataclass(slots=True)
class Image:
    """Pixels, and how they lie.

    ``pixels`` is uint8 (H, W, C) if ``interleaved``, uint8 (C, H, W) if not, or float32 (C, H, W); colours are in the
    order blue, green, red. ``shape`` is (C, H, W) in any case.
    """

    pixels: np.ndarray
    interleaved: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        if self.interleaved:
            height, width, channels = self.pixels.shape
            return channels, height, width
        channels, height, width = self.pixels.shape
        return channels, height, width


def decode(datum: Datum, color: bool | None = None, size: tuple[int, int] | None = None) -> Image:
    """The image of a record. Raises BadRecord, without a place, where the bytes are none.

    Both options concern encoded records only. ``color``: True makes three channels of any of them, False one, None
    leaves them as they are. ``size``: the (height, width) that they are resized to, bilinearly.
    """
    if datum.encoded:
        return _decode_file(datum, color, size)
    shape = (datum.channels, datum.height, datum.width)
    count = datum.channels * datum.height * datum.width
    if not count:
        raise BadRecord(f"it has no pixels: channels, height and width are {shape}")
    if len(datum.data):
        if len(datum.data) != count:
            raise BadRecord(f"it has {len(datum.data)} bytes of data, but its shape {shape} needs {count}")
        return Image(np.frombuffer(datum.data, np.uint8).reshape(shape), False)
    floats = 0 if datum.float_data is None else len(datum.float_data)
    if floats != count:
        raise BadRecord(f"it has {floats} values in float_data, but its shape {shape} needs {count}")
    return Image(np.asarray(datum.float_data, np.float32).reshape(shape), False)


def _decode_file(datum: Datum, color: bool | None, size: tuple[int, int] | None) -> Image:
    import cv2

    mode = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}[color]
    pixels = None
    if len(datum.data):
        try:
            pixels = cv2.imdecode(np.frombuffer(datum.data, np.uint8), mode)
        except cv2.error:  # some damage it reports by None, some by this
            pass
    if pixels is None:
        raise BadRecord(f"its {len(datum.data)} bytes cannot be decoded as an image")
    if pixels.dtype != np.uint8:
        raise BadRecord(f"it is an image of {pixels.dtype}; images with 8 bits per channel are wanted")
    if size is not None and pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return Image(pixels if pixels.ndim == 3 else pixels[:, :, None], True)
