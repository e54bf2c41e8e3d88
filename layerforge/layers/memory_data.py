"""MemoryData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..blob import Shape, View
from ..data import Transformer
from ..data.decode import Image
from ..datum import Datum, parse_datum
from ..errors import DataError, DefinitionError, LayerForgeError, ShapeError
from ..layer import Layer

FIELDS = ("batch_size", "channels", "height", "width")


class MemoryData(Layer):
    """Batches of what a program hands over: arrays, records or images.

    Tops: data (batch_size, channels, height, width), as ``memory_data_param`` says; label (batch_size), which may be
    left out. `set_input_arrays`, which a net passes on, hands over arrays; `add_datum_vector` records; `add_mat_vector`
    images. Their number must be a multiple of batch_size; they come in order, over and over. Arrays are not copied, so
    what is written to them later counts.

    With ``transform_param``, data of any size becomes (channels, height, width) by its crop; Caffe transforms records
    and images only, here arrays too. A new crop and mirroring is drawn each time an item comes.

    Raises ShapeError for data that does not fit, DataError for labels that are no numbers and for a forward pass
    without data.
    """

    bottoms = 0
    tops = (1, 2)
    differentiable = False
    records = False
    dynamic = True  # set_batch_size

    def setup(self, *bottom_shapes: Shape) -> None:
        for field in FIELDS:
            if not getattr(self.options, field):
                raise DefinitionError(f"{self.title}: {field} must be at least 1", self.place(field))
        self._batch_size = self.options.batch_size
        self._position = 0  # items taken, over all epochs
        self._data: Any = None  # (N, C, H, W), or a list of Images
        self._labels: Any = None
        self._rows: np.ndarray = np.empty(0, np.float32)
        self._transforms = self.param.HasField("transform_param")  # arrays too
        try:
            self._transformer = Transformer(self.param.transform_param, self.phase, self.seed, self.stream)
        except LayerForgeError as error:
            raise self.error(error.message, "transform_param", kind=type(error)) from error

    @property
    def _item(self) -> Shape:
        return tuple(getattr(self.options, field) for field in FIELDS[1:])

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        return [(self._batch_size, *self._item), (self._batch_size,)][: len(self.param.top)]

    # Handing data over.

    def set_input_arrays(self, data: Any, labels: Any = None) -> None:
        """Takes data (N, C, H, W) and N labels, without a copy; 0 for all labels if there are none."""
        data = np.asarray(data)
        if data.ndim != 4 or data.dtype.kind not in "fiub":
            raise self.error(f"data must be an array of numbers, (N, C, H, W); it is {_described(data)}")
        if not self._transforms and data.shape[1:] != self._item:
            raise self.error(
                f"data is {data.shape}; without transform_param it must be (N, {', '.join(map(str, self._item))})"
            )
        self._take(data, labels, [Image(data[0], False)] if len(data) and self._transforms else [])

    def add_datum_vector(self, datums: Sequence[Any]) -> None:
        """Takes records: Datum messages, their bytes, or `layerforge.datum.Datum`. They are decoded at once."""
        parsed = [_datum(one) for one in datums]
        images = []
        for i, datum in enumerate(parsed):
            try:
                images.append(self._transformer.decode(datum))
            except LayerForgeError as error:
                raise self.error(f"record {i}: {error.message}", kind=type(error)) from None
        self._take(images, [datum.label for datum in parsed], images)

    def add_mat_vector(self, images: Sequence[Any], labels: Any = None) -> None:
        """Takes images, each uint8 (H, W, C) or (H, W), and a label for each."""
        taken = []
        for i, image in enumerate(images):
            pixels = np.asarray(image)
            if pixels.ndim not in (2, 3) or pixels.dtype != np.uint8:
                raise self.error(f"image {i} must be uint8, (H, W) or (H, W, C); it is {_described(pixels)}")
            taken.append(Image(np.ascontiguousarray(pixels[:, :, None] if pixels.ndim == 2 else pixels), True))
        self._take(taken, labels, taken)

    def set_batch_size(self, size: int) -> None:
        """Changes the batch size from the next pass on; the number of items must be a multiple of it."""
        if self._data is not None:
            self._require_multiple(len(self._data), size)
        self._batch_size = int(size)
        self._position -= self._position % self._batch_size

    def _require_multiple(self, count: int, size: int) -> None:
        if size < 1 or count < 1 or count % size:
            raise self.error(f"the number of items, {count}, must be a multiple of batch_size: {size}", "batch_size")

    def _take(self, data: Any, labels: Any, images: Sequence[Image]) -> None:
        """Takes what was handed over, once it is known to fit; ``images`` are those that stand for it."""
        count = len(data)
        self._require_multiple(count, self._batch_size)
        labels = np.zeros(count) if labels is None else np.asarray(labels)
        if labels.size != count or labels.dtype.kind not in "fiub":
            raise self.error(f"there must be one label for each of the {count} items; they are {_described(labels)}")
        labels = labels.reshape(count)
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            raise self.error(f"label {int(np.argmax(np.isnan(labels)))} is nan; it must be a number", kind=DataError)
        for i, image in enumerate(images):
            self._require_fit(image, i)
        self._data, self._labels = data, labels
        self._position = 0

    def _require_fit(self, image: Image, i: int) -> None:
        """Raises ShapeError for an item that does not become what memory_data_param says."""
        try:
            becomes = self._transformer.output_shape(image)
        except ShapeError as error:
            raise self.error(f"item {i}: {error.message}", "transform_param") from None
        if becomes != self._item:
            raise self.error(f"item {i} becomes {becomes}; memory_data_param says {self._item}")

    # Running.

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        if self._data is None:
            raise self.error("it has no data yet: call net.set_input_arrays(data, labels)", kind=DataError)
        begin = self._position % len(self._data)
        end = begin + self._batch_size
        data = self._data[begin:end]
        if self._transforms or isinstance(data, list):
            data = self._transformed(data, top[0].shape)
        self.device.from_numpy(top[0].data, data)
        if len(top) > 1:
            self.device.from_numpy(top[1].data, self._labels[begin:end])
        self._position += self._batch_size

    def _transformed(self, data: Any, shape: Shape) -> np.ndarray:
        if self._rows.shape != shape:
            self._rows = np.empty(shape, np.float32)
        for i, one in enumerate(data):
            image = one if isinstance(one, Image) else Image(_plain(one), False)
            self._transformer(image, self._rows[i], self._position + i)
        return self._rows

    def data_state(self) -> dict[str, Any]:
        return {"position": self._position}

    def set_data_state(self, state: dict[str, Any]) -> None:
        self._position = state["position"]
        self._transformer.seed = self.seed

    def skip(self, passes: int) -> None:
        self._position = passes * self._batch_size


def _datum(one: Any) -> Datum:
    """A record from whatever holds one."""
    if isinstance(one, Datum):
        return one
    return parse_datum(one if isinstance(one, (bytes, memoryview)) else one.SerializeToString())


def _plain(pixels: np.ndarray) -> np.ndarray:
    """What a transformer takes: bytes or float32."""
    return np.ascontiguousarray(pixels, np.uint8 if pixels.dtype == np.uint8 else np.float32)


def _described(array: np.ndarray) -> str:
    return f"{array.shape} of {array.dtype}"
