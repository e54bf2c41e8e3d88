"""HDF5Data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..blob import Shape, View
from ..data.hdf5_source import Hdf5Source
from ..errors import DataError, DefinitionError
from ..layer import Layer


class HDF5Data(Layer):
    """Batches of rows from HDF5 files, which a text file lists.

    Tops: any number, at least one, each (batch_size, ...) from the dataset of its name: floats or integers, the first
    axis counts the samples. Rows come in order, file after file, over and over; ``shuffle: true`` gives every epoch a
    new order of files and of rows within each.

    Raises DataError for files and datasets that are missing, unequal or no numbers, DefinitionError for
    ``transform_param``, which this layer does not have.
    """

    Options = "hdf5_data_param"
    bottoms = 0
    tops = (1, None)
    differentiable = False

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        if self.param.HasField("transform_param"):
            raise DefinitionError(
                f"{self.title}: this type has no transform_param: transform the data before it is written",
                self.place("transform_param"),
            )
        if not options.batch_size:
            raise DefinitionError(f"{self.title}: batch_size must be at least 1", self.place("batch_size"))
        self.wait_seconds = 0.0  # how long the net has waited for its batches, in all
        self._position = 0  # rows read, over all epochs
        with self._explained():
            self.source = Hdf5Source(
                options.source, self.param.top, shuffle=options.shuffle, seed=self.seed, stream=self.stream
            )
        self._rows: list[np.ndarray] = []

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        return [(self.options.batch_size, *self.source.shapes[name]) for name in self.param.top]

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        begin = time.perf_counter()
        if not self._rows:
            self._rows = [np.empty(y.shape, self.dtype) for y in top]
        with self._explained():
            self.source.fill(self._position, self._rows)
        self._position += self.options.batch_size
        self.wait_seconds += time.perf_counter() - begin
        for y, values in zip(top, self._rows, strict=True):
            self.device.from_numpy(y.data, values)

    def data_state(self) -> dict[str, Any]:
        return {"position": self._position}

    def set_data_state(self, state: dict[str, Any]) -> None:
        self._position = state["position"]
        self.source.reseed(self.seed)

    def skip(self, passes: int) -> None:
        self._position = passes * self.options.batch_size

    def close(self) -> None:
        self.source.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Puts this layer and the line of its source in front of what the source says."""
        try:
            yield
        except DataError as error:
            raise self.error(error.message, "source", kind=DataError) from error
