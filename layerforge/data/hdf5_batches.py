"""Batches of rows from HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, ShapeError
from .decode import Image
from .hdf5_source import Hdf5Source
from .ring import Slot
from .transform import Transformer


class Hdf5Batches:
    """The work of a loader: a batch is an array (batch_size, ...) of each dataset, read at once, by one thread.

    The first of them is transformed if there is a ``transformer``: its rows must be (C, H, W) then. Arrays are of
    ``dtype``, what is transformed float32. Raises DataError for a NaN in a dataset that has "label" in its name.
    """

    def __init__(self, source: Hdf5Source, batch_size: int, dtype: Any, transformer: Transformer | None = None):
        self.source = source
        self.batch_size = self.rows = batch_size  # rows: of a piece, which is the whole
        self.dtype = dtype
        self.transformer = transformer
        self._plain: np.ndarray | None = None  # the first dataset's part of a batch before it is transformed
        first = source.names[0]
        self._shape = source.shapes[first]
        if transformer is not None:
            if len(self._shape) != 3:
                raise ShapeError(
                    f'transform_param needs rows of (C, H, W), but those of dataset "{first}" are {self._shape}: '
                    "take it away, or write the data in that shape"
                )
            self._shape = transformer.output_shape(Image(np.empty(self._shape, np.float32), False))

    @property
    def uri(self) -> str:
        return self.source.uri

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of a row of each array."""
        return [self._shape, *(self.source.shapes[name] for name in self.source.names[1:])]

    def open(self) -> None:
        """There is nothing to make ready."""

    def shape(self, index: int) -> tuple[int, ...]:
        return self._shape

    def reseed(self, seed: int) -> None:
        self.source.reseed(seed)
        if self.transformer is not None:
            self.transformer.seed = seed

    def empty(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        kinds = [self.dtype] * len(self.shapes)
        if self.transformer is not None:
            kinds[0] = np.float32
            self._plain = np.empty((self.batch_size, *self.source.shapes[self.source.names[0]]), np.float32)
        return [np.empty((self.batch_size, *row), kind) for row, kind in zip(self.shapes, kinds, strict=True)]

    def fill(self, slot: Slot, row: int, count: int, index: int) -> None:
        arrays: list[np.ndarray] = slot.batch
        rows = arrays if self._plain is None else [self._plain, *arrays[1:]]
        self.source.fill(index, rows)
        self._refuse_nan(rows, index)
        if self.transformer is not None:
            for i, plain in enumerate(rows[0]):
                self.transformer(Image(plain, False), arrays[0][i], index + i)

    def _refuse_nan(self, rows: Sequence[np.ndarray], index: int) -> None:
        for name, values in zip(self.source.names, rows, strict=True):
            if "label" in name.lower() and np.isnan(values).any():
                row = int(np.argwhere(np.isnan(values))[0, 0])
                raise DataError(f'{self.source.describe(index + row)}: its "{name}" is nan, not a number')
