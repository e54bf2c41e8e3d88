"""HDF5Data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..blob import Shape, View
from ..data import Transformer
from ..data.decode import Image
from ..data.hdf5_source import Hdf5Source
from ..errors import DataError, DefinitionError, ShapeError
from ..layer import Layer


class HDF5Data(Layer):
    """Batches of rows from HDF5 files, which a text file lists.

    Tops: any number, at least one, each (batch_size, ...) from the dataset of its name: floats or integers, the first
    axis counts the samples. Rows come in order, file after file, over and over; ``shuffle: true`` gives every epoch a
    new order of files and of rows within each. Files that are larger than memory are read in slices.

    ``transform_param``, which Caffe refuses here, transforms the first top, whose rows must be (C, H, W).

    Raises DataError for files and datasets that are missing, unequal or no numbers, and for a NaN in a top that has
    "label" in its name; ShapeError where ``transform_param`` does not fit.
    """

    Options = "hdf5_data_param"
    bottoms = 0
    tops = (1, None)
    differentiable = False

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        if not options.batch_size:
            raise DefinitionError(f"{self.title}: batch_size must be at least 1", self.place("batch_size"))
        self.wait_seconds = 0.0  # how long the net has waited for its batches, in all
        self._position = 0  # rows read, over all epochs
        with self._explained():
            self.source = Hdf5Source(
                options.source, self.param.top, shuffle=options.shuffle, seed=self.seed, stream=self.stream
            )
        self._rows: list[np.ndarray] = []  # a batch as it is read
        self._output: np.ndarray | None = None  # its first part, transformed
        self._transformer: Transformer | None = None
        self._becomes: Shape = self.source.shapes[self.param.top[0]]  # a row of the first top
        if self.param.HasField("transform_param"):
            with self._explained("transform_param"):
                self._transformer = Transformer(self.param.transform_param, self.phase, self.seed, self.stream)
                self._becomes = self._transformer.output_shape(self._image(self._becomes))

    def _image(self, row: Shape) -> Image:
        """An empty image of the shape of a row."""
        if len(row) != 3:
            raise ShapeError(
                f'transform_param needs rows of (C, H, W), but those of dataset "{self.param.top[0]}" are {row}: '
                "take it away, or write the data in that shape"
            )
        return Image(np.empty(row, np.float32), False)

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        rows = [self._becomes, *(self.source.shapes[name] for name in self.param.top[1:])]
        return [(self.options.batch_size, *row) for row in rows]

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        begin = time.perf_counter()
        if not self._rows:
            self._rows = self._arrays()
        with self._explained():
            self.source.fill(self._position, self._rows)
            self._refuse_nan()
        rows = self._rows
        if self._transformer is not None:
            rows = [self._transformed(self._transformer, rows[0], top[0].shape), *rows[1:]]
        self._position += self.options.batch_size
        self.wait_seconds += time.perf_counter() - begin
        for y, values in zip(top, rows, strict=True):
            self.device.from_numpy(y.data, values)

    def _arrays(self) -> list[np.ndarray]:
        """Arrays for a batch as it is read."""
        shapes = [(self.options.batch_size, *self.source.shapes[name]) for name in self.param.top]
        kinds = [np.float32 if i == 0 and self._transformer is not None else self.dtype for i in range(len(shapes))]
        return [np.empty(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]

    def _refuse_nan(self) -> None:
        for name, values in zip(self.param.top, self._rows, strict=True):
            if "label" in name.lower() and np.isnan(values).any():
                row = int(np.argwhere(np.isnan(values))[0, 0])
                raise DataError(f'{self.source.describe(self._position + row)}: its "{name}" is nan, not a number')

    def _transformed(self, transformer: Transformer, rows: np.ndarray, shape: Shape) -> np.ndarray:
        if self._output is None:
            self._output = np.empty(shape, np.float32)
        for i, row in enumerate(rows):
            transformer(Image(row, False), self._output[i], self._position + i)
        return self._output

    def data_state(self) -> dict[str, Any]:
        return {"position": self._position}

    def set_data_state(self, state: dict[str, Any]) -> None:
        self._position = state["position"]
        self.source.reseed(self.seed)
        if self._transformer is not None:
            self._transformer.seed = self.seed

    def skip(self, passes: int) -> None:
        self._position = passes * self.options.batch_size

    def close(self) -> None:
        self.source.close()

    @contextlib.contextmanager
    def _explained(self, field: str = "source") -> Iterator[None]:
        """Puts this layer and the line of a field in front of what the source or the transformer says."""
        try:
            yield
        except (DataError, DefinitionError, ShapeError) as error:
            raise self.error(error.message, field, kind=type(error)) from error
