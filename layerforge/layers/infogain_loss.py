"""InfogainLoss."""

import math

import numpy as np

from .. import wire
from ..errors import DataError, DefinitionError
from ..kernels import Kernels
from ..layer import Layer, count
from . import _labels, _losses

B = Kernels("broadcast.h")
K = Kernels("labels.h")
S = Kernels("softmax.h")

LEAST = math.log(1e-20)  # Caffe takes no probability for smaller than 1e-20


class InfogainLoss(Layer):
    """Softmax and a logistic loss with a price for each confusion: loss = sum over rows of -sum over k of H_lk log p_k.

    H (classes, classes) says how much each class k weighs where the label is l; with the identity this is
    `SoftmaxWithLoss`. It is bottom 2, or the array of the binaryproto ``source``, in any shape of that count.
    Bottom 0: scores x, any rank; the classes lie along ``axis`` (default 1), and each position of the other axes is a
    row. Bottom 1: labels, as many as rows, in any shape, each a class from 0 on; fractions are cut off. Neither labels
    nor H get a gradient. Top 0: (). Top 1, if there is one: the probabilities p, of x's shape; its gradient is passed
    on. dx_k = (p_k sum over j of H_lj - H_lk) * dloss / divisor.

    ``loss_param``: rows whose label is ``ignore_label`` do not count. ``normalization`` is the divisor: VALID
    (default), the rows that count; FULL, all rows; BATCH_SIZE, the product of the axes before the classes; NONE, 1;
    PRE_FIXED, ``pre_fixed_normalizer``. It is never less than 1.

    No p counts as less than 1e-20, as in Caffe; the gradient is that of the true one. Raises DataError for a label that
    is no class, with its item and value, and for a source that is missing or damaged; DefinitionError for no H at all,
    ShapeError where shapes do not fit.
    """

    bottoms = (2, 3)
    tops = (1, 2)
    loss = True
    tells = True
    differentiable = (True, False, False)

    def setup(self, x, label, h=None):
        self.normalization = _losses.Normalization(self)
        if len(self.param.top) > 1:
            self.needs_top = "values"  # the probabilities
        self.matrix, self.written = None, None
        if h is not None:
            return
        source = self.options.source
        if not source:
            message = 'source is missing: write source: "infogain.binaryproto", or give the matrix as a third bottom'
            raise self.error(message, kind=DefinitionError)
        try:
            self.matrix = wire.read_blob(source)
        except DataError as error:
            raise self.error(f'source "{source}": {error.message}', "source", kind=DataError) from error

    def rows(self, x):
        return _labels.rows(x, self.axis(self.options.axis, len(x)))

    def top_shapes(self, x, label, h=None):
        axis = self.axis(self.options.axis, len(x))
        _labels.require_shape(self, x, label, axis)
        shape = h if self.matrix is None else self.matrix.shape
        whose = f'source "{self.options.source}" {shape}' if h is None else self.describe(2)
        self.require(
            count(shape) == x[axis] ** 2,
            f"{whose} must hold {x[axis]} x {x[axis]} values: {self.describe(0)} has {x[axis]} classes along axis"
            f" {axis}",
            *(("source",) if h is None else ("bottom", 2)),
        )
        return [(), x][: max(1, len(self.param.top))]

    def state_shapes(self, x, label, h=None):
        outer, classes, inner = self.rows(x)
        state = {"maximum": outer * inner, "sum": outer * inner, "total": classes, "divisor": 1}
        if h is None:
            state["matrix"] = classes * classes
        return {name: ((size,), self.dtype) for name, size in state.items()}

    def scratch_size(self, x, label, h=None):
        outer, _, inner = self.rows(x)
        return _losses.scratch_size(outer * inner)

    def h(self, bottom):
        if len(bottom) > 2:
            return bottom[2].data
        matrix = self.state["matrix"]
        if self.written is not matrix:
            self.device.from_numpy(matrix, np.asarray(self.matrix).reshape(-1))
            self.written = matrix
        return matrix

    def forward(self, bottom, top):
        x, label = bottom[:2]
        loss = top[0]
        outer, classes, inner = self.rows(x.shape)
        h, n = self.h(bottom), outer * inner
        statistics = self.state["maximum"], self.state["sum"]
        S.softmax_statistics(x.data, *statistics, classes, inner)
        value = _losses.values(self, n)
        ignore = self.normalization.ignore
        K.infogain_loss_rows(x.data, label.data, h, *statistics, value, classes, inner, *ignore, LEAST)
        _losses.mean(self, n, loss, self.normalization.divisor(outer, inner))
        if len(top) > 1:
            S.softmax_forward(x.data, *statistics, top[1].data, classes, inner)
        self.doubt(loss.data, lambda: _labels.check(self, label, classes, self.normalization.ignored))

    def backward(self, bottom, top):
        x, label = bottom[:2]
        loss, *probability = top
        if not x.needs_diff:
            return
        outer, classes, inner = self.rows(x.shape)
        flows = [p for p in probability if p.needs_diff]
        for p in flows:
            dot = self.scratch[: outer * inner]
            S.softmax_dot(p.data, p.diff, dot, classes, inner)
            S.softmax_backward(p.data, p.diff, dot, x.diff, classes, inner)
        if loss.needs_diff:
            h, total = self.h(bottom), self.state["total"]
            B.sum_rows(h, total, classes, 1)
            statistics = self.state["maximum"], self.state["sum"]
            weights = loss.diff, self.state["divisor"]
            ignore = self.normalization.ignore
            K.infogain_loss_backward(
                x.data, label.data, h, total, *statistics, *weights, x.diff, classes, inner, *ignore, bool(flows)
            )
        elif not flows:
            x.diff.fill(0)
