"""HDF5Output."""

import os

from ..errors import DataError, DefinitionError
from ..layer import Layer


class HDF5Output(Layer):
    """Writes two blobs to an HDF5 file, as the datasets "data" and "label": a batch behind the other, pass by pass.

    Bottoms: data (N, ...) and label (N, ...), of up to four axes, which are filled up to four with axes of 1, as in
    Caffe. No top. The first pass makes the file ``file_name`` anew; after each pass the file is whole.

    Raises DefinitionError without a file_name, ShapeError where the numbers of items differ, DataError where the file
    cannot be written. What Caffe left out: a second pass ended it.
    """

    bottoms = 2
    tops = 0
    differentiable = False
    records = False

    def setup(self, data, label):
        if not self.options.file_name:
            message = 'file_name is missing: write file_name: "features.h5", say'
            raise self.error(message, kind=DefinitionError)
        self.file = None

    def top_shapes(self, data, label):
        self.require(
            len(data) > 0 and data[:1] == label[:1],
            f"{self.describe(1)} must have as many items on axis 0 as {self.describe(0)}",
            "bottom",
            1,
        )
        return []

    def forward(self, bottom, top):
        try:
            if self.file is None:
                self.file = self.open(bottom)
            for name, x in zip(("data", "label"), bottom, strict=True):
                values = self.device.to_numpy(x.data).reshape(four_axes(x.shape))
                written = self.file[name]
                before = len(written)
                written.resize(before + len(values), axis=0)
                written[before:] = values
            self.file.flush()
        except (OSError, TypeError, ValueError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else error
            message = f'file_name: "{self.options.file_name}" cannot be written: {reason}'
            raise self.error(message, "file_name", kind=DataError) from error

    def open(self, bottom):
        """The file, with two empty datasets that can grow."""
        import h5py

        file = h5py.File(os.fspath(self.options.file_name), "w")
        for name, x in zip(("data", "label"), bottom, strict=True):
            _, *rest = four_axes(x.shape)
            file.create_dataset(
                name, (0, *rest), self.dtype, maxshape=(None, *rest), chunks=(max(1, x.shape[0]), *rest)
            )
        return file

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None


def four_axes(shape):
    """A shape with axes of 1 behind it, up to four."""
    return (*shape, *[1] * (4 - len(shape)))
