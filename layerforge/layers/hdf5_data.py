"""HDF5Data."""

from __future__ import annotations

from collections.abc import Sequence

from ..blob import Shape
from ..data.hdf5_batches import Hdf5Batches
from ..data.hdf5_source import Hdf5Source
from ..data.loader import Ahead
from ..layer import Layer
from ._batches import Batches


class HDF5Data(Batches, Layer):
    """Batches of rows from HDF5 files, which a text file lists, read by a thread that works ahead of the net.

    Tops: any number, at least one, each (batch_size, ...) from the dataset of its name: floats or integers, the first
    axis counts the samples. Rows come in order, file after file, over and over; ``shuffle: true`` gives every epoch a
    new order of files and of rows within each. Files that are larger than memory are read in slices. The thread works
    up to ``data_param.prefetch`` batches ahead.

    ``transform_param``, which Caffe refuses here, transforms the first top, whose rows must be (C, H, W).

    Raises DataError for files and datasets that are missing, unequal or no numbers, and for a NaN in a top that has
    "label" in its name; ShapeError where ``transform_param`` does not fit.
    """

    Options = "hdf5_data_param"
    tops = (1, None)

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        self.require_batch_size()
        with self.explained("source"):
            self.source = Hdf5Source(
                options.source, self.param.top, shuffle=options.shuffle, seed=self.seed, stream=self.stream
            )
        transformer = self.transformer() if self.param.HasField("transform_param") else None
        with self.explained("transform_param"):
            work = Hdf5Batches(self.source, options.batch_size, self.dtype, transformer)
        # One thread: HDF5 lets only one read at a time.
        self.loader: Ahead[Hdf5Batches] = Ahead(work, threads=1, prefetch=self.param.data_param.prefetch)

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        return [(self.options.batch_size, *row) for row in self.loader.work.shapes]
