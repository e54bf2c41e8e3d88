"""SoftmaxWithLoss."""

import math

import numpy as np

from ..kernels import Kernels
from ..layer import Layer
from . import _labels, _losses

K = Kernels("labels.h")
S = Kernels("softmax.h")

FEW_ROWS, FEW_SCORES = 256, 32  # that a single launch takes: a GPU's threads in a block, and what one of them adds up

MOST = -math.log(float(np.finfo(np.float32).tiny))  # Caffe takes no probability for smaller than FLT_MIN


class SoftmaxWithLoss(Layer):
    """Softmax and the multinomial logistic loss in one: loss = sum over rows of -log(p of the label) / divisor.

    Bottom 0: scores x, any rank; the classes lie along ``softmax_param.axis`` (default 1), and each position of the
    other axes is a row. Bottom 1: labels, as many as rows, in any shape, each a class from 0 on; fractions are cut off.
    It gets no gradient. Top 0: (). Top 1, if there is one: the probabilities p, of x's shape; its gradient is passed
    on. dx = (p - [class is the label]) * dloss / divisor.

    ``loss_param``: rows whose label is ``ignore_label`` do not count. ``normalization`` is the divisor: VALID
    (default), the rows that count; FULL, all rows; BATCH_SIZE, the product of the axes before the classes; NONE, 1;
    PRE_FIXED, ``pre_fixed_normalizer``. It is never less than 1, so the loss is 0 where no row counts. ``normalize`` is
    its older spelling: true is VALID, false is BATCH_SIZE; normalization has precedence.

    No probability counts as less than 2^-126, so a row's loss is at most 87.34, as in Caffe; the gradient is that of
    the true probability. The sum is formed in double precision, in an order that the number of rows alone decides. NaN
    in x is NaN in the loss.

    Raises DataError for a label that is no class, with its item and value; ShapeError for an axis that x does not have
    and for a number of labels that is not that of the rows.
    """

    bottoms = 2
    tops = (1, 2)
    loss = True
    tells = True
    differentiable = (True, False)
    Options = "softmax_param"

    def setup(self, x, label):
        self.normalization = _losses.Normalization(self)
        if len(self.param.top) > 1:
            self.needs_top = "values"  # the probabilities

    def rows(self, x):
        return _labels.rows(x, self.axis(self.options.axis, len(x)))

    def top_shapes(self, x, label):
        _labels.require_shape(self, x, label, self.axis(self.options.axis, len(x)))
        return [(), x][: max(1, len(self.param.top))]

    def state_shapes(self, x, label):
        outer, _, inner = self.rows(x)
        each = ((outer * inner,), self.dtype)
        return {"maximum": each, "total": each, "divisor": ((1,), self.dtype)}

    def scratch_size(self, x, label):
        outer, _, inner = self.rows(x)
        return _losses.scratch_size(outer * inner)

    def forward(self, bottom, top):
        x, label = bottom
        loss = top[0]
        outer, channels, inner = self.rows(x.shape)
        n, divisor = outer * inner, self.normalization.divisor(outer, inner)
        statistics = self.state["maximum"], self.state["total"]
        arrays = x.data, label.data, *statistics, _losses.values(self, n)
        options = channels, inner, *self.normalization.ignore, MOST
        if n <= FEW_ROWS and channels <= FEW_SCORES:
            mean = loss.data, self.state["divisor"], self.told
            K.softmax_loss_of_few(*arrays, *mean, n, *options, divisor, count=1)
        else:
            K.softmax_loss_rows(*arrays, *options)
            _losses.mean(self, n, loss, divisor)
        if len(top) > 1:
            S.softmax_forward(x.data, *statistics, top[1].data, channels, inner)
        self.doubt(loss.data, lambda: _labels.check(self, label, channels, self.normalization.ignored))

    def backward(self, bottom, top):
        x, label = bottom
        loss, *probability = top
        if not x.needs_diff:
            return
        outer, channels, inner = self.rows(x.shape)
        flows = [p for p in probability if p.needs_diff]
        for p in flows:
            dot = self.scratch[: outer * inner]
            S.softmax_dot(p.data, p.diff, dot, channels, inner)
            S.softmax_backward(p.data, p.diff, dot, x.diff, channels, inner)
        maximum, total, divisor = self.state["maximum"], self.state["total"], self.state["divisor"]
        ignore = self.normalization.ignore
        if loss.needs_diff:
            K.softmax_loss_backward(
                x.data, label.data, maximum, total, loss.diff, divisor, x.diff, channels, inner, *ignore, bool(flows)
            )
        elif not flows:
            x.diff.fill(0)
