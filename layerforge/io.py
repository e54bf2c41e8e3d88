"""pycaffe's ``caffe.io``: arrays to and from Caffe's messages, images to and from network inputs.

Images are float32 arrays of shape (H, W, C), RGB, in [0, 1], as in pycaffe; a `Transformer` makes network inputs of
them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import schema
from .errors import DataError, DefinitionError, ShapeError, did_you_mean
from .proto import caffe_pb2  # noqa: F401 (pycaffe's scripts look for it here too)


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The data (or the diff) of a BlobProto, in its shape: the old four dimensions where they are given.

    Raises DataError where the number of values is another.
    """
    values = (blob.double_diff or blob.diff) if return_diff else (blob.double_data or blob.data)
    array = np.array(values, np.float64 if (blob.double_diff if return_diff else blob.double_data) else np.float32)
    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    return _shaped(array, shape, "BlobProto")


def _shaped(array: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    if array.size != math.prod(shape):
        raise DataError(f"this {kind} says that its shape is {shape}, but it holds {array.size} values")
    return array.reshape(shape)


def array_to_blobproto(arr: Any, diff: Any = None) -> Any:
    """A BlobProto with the values and the shape of an array."""
    array = np.asarray(arr)
    blob = schema.message("BlobProto")()
    blob.shape.dim.extend(array.shape)
    blob.data.extend(array.astype(np.float32).ravel().tolist())
    if diff is not None:
        blob.diff.extend(np.asarray(diff).astype(np.float32).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[Any]) -> bytes:
    """Arrays as the bytes of a BlobProtoVector."""
    return schema.message("BlobProtoVector")(blobs=[array_to_blobproto(a) for a in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(raw: bytes) -> list[np.ndarray]:
    """The arrays of a serialised BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in schema.message("BlobProtoVector").FromString(raw).blobs]


def array_to_datum(arr: Any, label: int | None = None) -> Any:
    """A Datum of an array of shape (C, H, W): its bytes if it is uint8, floats otherwise."""
    array = np.asarray(arr)
    if array.ndim != 3:
        raise ShapeError(f"a Datum has three axes, channels, height and width; this array has shape {array.shape}")
    datum = schema.message("Datum")()
    datum.channels, datum.height, datum.width = array.shape
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.astype(np.float32).ravel().tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """The array of a Datum that is not encoded, of shape (C, H, W): uint8, or float32."""
    shape = (datum.channels, datum.height, datum.width)
    if len(datum.data):
        if datum.encoded:
            raise DataError("this Datum holds an encoded image: decode its data with cv2.imdecode")
        return _shaped(np.frombuffer(datum.data, np.uint8).copy(), shape, "Datum")
    return _shaped(np.array(datum.float_data, np.float32), shape, "Datum")


def load_image(filename: str | os.PathLike[str], color: bool = True) -> np.ndarray:
    """An image file as (H, W, 3) RGB in [0, 1], or (H, W, 1) for ``color=False``.

    Raises DataError where it cannot be read.
    """
    import cv2

    flags = (cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_ANYDEPTH
    image = cv2.imread(str(filename), flags) if os.path.exists(filename) else None
    if image is None:
        why = "it is no image, or damaged" if os.path.exists(filename) else "there is no such file"
        raise DataError(f"cannot read an image from {filename}: {why}")
    most = {1: 255, 2: 65535}.get(image.dtype.itemsize, 1)  # bytes, 16 bits, floats
    image = image[:, :, ::-1] if color else image[:, :, np.newaxis]
    return np.ascontiguousarray(image, np.float32) / np.float32(most)


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """An image (H, W, C) in another size (H', W'), by the nearest pixel (order 0), bilinear (1) or bicubic (3)."""
    import cv2

    orders = {0: cv2.INTER_NEAREST, 1: cv2.INTER_LINEAR, 3: cv2.INTER_CUBIC}
    if interp_order not in orders:
        raise DefinitionError(f"interp_order: {interp_order} is none of 0 (nearest), 1 (bilinear), 3 (bicubic)")
    im = np.asarray(im, np.float32)
    if im.ndim != 3 or not im.size:
        raise ShapeError(f"an image has three axes, height, width and channels; this one has shape {im.shape}")
    height, width = (int(n) for n in new_dims[:2])
    planes = np.moveaxis(im, -1, 0)
    resized = [cv2.resize(np.ascontiguousarray(p), (width, height), interpolation=orders[interp_order]) for p in planes]
    return np.stack(resized, axis=-1)


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Ten crops of each image: four corners and the centre, then the five mirrored. Shape (10 N, h, w, C)."""
    height, width = (int(n) for n in crop_dims)
    shape = images[0].shape
    if shape[0] < height or shape[1] < width:
        raise ShapeError(f"crops of ({height}, {width}) do not fit images of ({shape[0]}, {shape[1]})")
    tops = (0, shape[0] - height)
    lefts = (0, shape[1] - width)
    places = [(y, x) for y in tops for x in lefts]
    places.append(((shape[0] - height) // 2, (shape[1] - width) // 2))
    crops = np.empty((10 * len(images), height, width, shape[-1]), np.float32)
    for n, image in enumerate(images):
        for i, (y, x) in enumerate(places):
            crops[10 * n + i] = image[y : y + height, x : x + width]
        crops[10 * n + 5 : 10 * n + 10] = crops[10 * n : 10 * n + 5, :, ::-1]
    return crops


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


class Transformer:
    """Images to network inputs, by input blob: resize, transpose, channel swap, raw scale, mean, input scale, in this
    order.

    ``inputs`` maps the names of input blobs to their shapes. Each ``set_*`` takes such a name first.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise DefinitionError(f'"{in_}" is no input of this transformer.{did_you_mean(in_, self.inputs)}')
        return self.inputs[in_]

    def preprocess(self, in_: str, data: Any) -> np.ndarray:
        """The network input, of the shape of ``in_`` without its first axis, for an image (H, W, C).

        As in pycaffe, an image that is not transposed keeps its axes, and a grey one may be for an input of more
        channels: a blob takes what broadcasts to its shape.
        """
        shape = self._shape(in_)[1:]
        out = np.asarray(data).astype(np.float32, copy=False)
        if out.shape[:2] != shape[1:]:
            out = resize_image(out, shape[1:])
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        swapped, transposed = in_ in self.channel_swap, in_ in self.transpose
        if out.shape != shape and (swapped or (transposed and not _broadcasts(out.shape, shape))):
            raise ShapeError(f'"{in_}" takes {shape}; the image gives {out.shape}. Is set_transpose as it should be?')
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            out = out * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            out = out - self.mean[in_]
        if in_ in self.input_scale:
            out = out * np.float32(self.input_scale[in_])
        return out

    def deprocess(self, in_: str, data: Any) -> np.ndarray:
        """The image that a network input was made of: `preprocess` backwards, but for its size."""
        axes = len(self._shape(in_)) - 1
        out = np.asarray(data)
        if out.ndim < axes or out.size != math.prod(out.shape[-axes:]):
            raise ShapeError(f"deprocess takes one input, of {axes} axes; it was given an array of shape {out.shape}")
        out = out.reshape(out.shape[-axes:]).copy()
        if in_ in self.input_scale:
            out = out / np.float32(self.input_scale[in_])
        if in_ in self.mean:
            out = out + self.mean[in_]
        if in_ in self.raw_scale:
            out = out / np.float32(self.raw_scale[in_])
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            out = out.transpose(np.argsort(self.transpose[in_]))
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of axes: (2, 0, 1) makes channels the first."""
        axes = len(self._shape(in_)) - 1
        if len(order) != axes:
            raise ShapeError(f"transpose: {tuple(order)} must name {axes} axes, as the input has without its first")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of channels: (2, 1, 0) makes BGR of RGB. Applied when channels are the first axis."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise ShapeError(f"channel_swap: {tuple(order)} must name the {channels} channels of the input")
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean is subtracted: 255 for models of pixels in [0, 255]."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Any) -> None:
        """What is subtracted: one value per channel, or an image (C, H, W), which is resized to the input."""
        shape = self._shape(in_)
        mean = np.asarray(mean, np.float32)
        if mean.ndim == 1:
            if mean.shape[0] != shape[1]:
                raise ShapeError(f"mean: {mean.shape[0]} values for the {shape[1]} channels of the input")
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        if mean.ndim == 2:
            mean = mean[np.newaxis]
        if mean.ndim != 3 or mean.shape[0] != shape[1]:
            raise ShapeError(
                f"mean: its shape {mean.shape} must have the {shape[1]} channels of the input, and three axes"
            )
        if mean.shape[1:] != shape[2:]:
            mean = resize_image(mean.transpose(1, 2, 0), shape[2:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale
