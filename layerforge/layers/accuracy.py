"""Accuracy."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from . import _labels

K = Kernels("labels.h")


class Accuracy(Layer):
    """How often the label is among the ``top_k`` best scores: right rows / rows that count.

    Bottom 0: scores, any rank; the classes lie along ``axis`` (default 1), and each position of the other axes is a
    row. Bottom 1: labels, as many as rows, in any shape, each a class from 0 on; fractions are cut off. Top 0: (). Top
    1, if there is one: (classes,), the accuracy over the rows of each label, 0 for a label that has none. No gradient.

    A row is right if fewer than top_k (default 1) other scores are as large as the label's, so a tie counts against the
    label, as in Caffe; so does a NaN, which there counts for it. Rows whose label is ``ignore_label`` do not count; if
    no row does, the accuracy is 0.

    Raises DataError for a label that is no class, with its item and value; ShapeError for an axis that the scores do
    not have, for a number of labels that is not that of the rows, and for fewer classes than top_k.
    """

    bottoms = 2
    tops = (1, 2)
    differentiable = False

    def setup(self, x, label):
        options = self.options
        self.ignored = options.ignore_label if options.HasField("ignore_label") else None
        if options.top_k < 1:
            raise self.error(f"top_k: {options.top_k} must be at least 1", "top_k", kind=DefinitionError)

    def rows(self, x):
        return _labels.rows(x, self.axis(self.options.axis, len(x)))

    def top_shapes(self, x, label):
        axis = self.axis(self.options.axis, len(x))
        _labels.require_shape(self, x, label, axis)
        self.require(
            self.options.top_k <= x[axis],
            f"top_k: {self.options.top_k} must be at most the {x[axis]} classes of {self.describe(0)}",
            "top_k",
        )
        return [(), (x[axis],)][: max(1, len(self.param.top))]

    def scratch_size(self, x, label):
        outer, _, inner = self.rows(x)
        return outer * inner + 1 + _labels.mean_size(outer * inner)

    def forward(self, bottom, top):
        x, label = bottom
        accuracy = top[0]
        outer, channels, inner = self.rows(x.shape)
        n = outer * inner
        value, divisor, scratch = self.scratch[:n], self.scratch[n : n + 1], self.scratch[n + 1 :]
        ignore = (self.ignored is not None, self.ignored or 0)
        K.accuracy_rows(x.data, label.data, value, channels, inner, self.options.top_k, *ignore)
        _labels.mean(value, scratch, accuracy.data, divisor, -1)
        if len(top) > 1:
            K.accuracy_of_class(value, label.data, top[1].data, n, channels)
        self.doubt(accuracy.data, lambda: _labels.check(self, label, channels, self.ignored))
