"""BatchReindex."""

from ..kernels import Kernels
from ..layer import Layer, count
from . import _rows

K = Kernels("lookup.h")


class BatchReindex(Layer):
    """Items of a batch in another order, some several times, some not at all: y_m = x_index(m).

    Bottom x: (N, ...). Bottom 1: the indices (M,), each from 0 to N - 1; fractions are cut off. It gets no gradient.
    Top y: (M, ...). dx_n is the sum of dy_m over the m with index n, in their order.

    Raises DataError for an index out of range, with its item and value; ShapeError where bottom 1 does not have one
    axis.
    """

    bottoms = 2
    differentiable = (True, False)

    def top_shapes(self, x, index):
        self.require(len(x) > 0, f"{self.describe(0)} must have an axis of items", "bottom", 0)
        self.require(len(index) == 1, f"{self.describe(1)} must have one axis, (M,)", "bottom", 1)
        return [(*index, *x[1:])]

    def state_shapes(self, x, index):
        return _rows.state_shapes(index)

    def forward(self, bottom, top):
        (x, index), (y,) = bottom, top
        rows = _rows.read(self, 1, index, x.shape[0])
        K.take_rows(x.data, rows, None, y.data, count(x.shape, 1))

    def backward(self, bottom, top):
        (x, _), (y,) = bottom, top
        x.diff.fill(0)
        _rows.add(self, y.diff, x.diff, count(x.shape, 1))
