"""MultinomialLogisticLoss."""

from ..kernels import Kernels
from ..layer import Layer, count
from . import _labels, _losses

K = Kernels("labels.h")

LEAST = 1e-20  # Caffe takes no probability for smaller


class MultinomialLogisticLoss(Layer):
    """The mean of -log p of the label, for probabilities that are given: loss = -sum over n of log p_n,label / N.

    Bottom 0: probabilities p (N, ...), all values of an item being its classes. Bottom 1: N labels, in any shape, each
    a class from 0 on; fractions are cut off. It gets no gradient. Top: (). dp = -dloss / (N p) for the label's class,
    else 0. No p counts as less than 1e-20, in both. The loss of an empty batch is 0. For scores, `SoftmaxWithLoss` is
    the same and more exact.

    Raises DataError for a label that is no class, with its item and value; ShapeError for a number of labels other than
    N.
    """

    bottoms = 2
    loss = True
    tells = True
    differentiable = (True, False)

    def top_shapes(self, p, label):
        _labels.require_items(self, p, label)
        return [()]

    def state_shapes(self, p, label):
        return {"divisor": ((1,), self.dtype)}

    def scratch_size(self, p, label):
        return _losses.scratch_size(p[0])

    def forward(self, bottom, top):
        (p, label), (loss,) = bottom, top
        items, classes = p.shape[0], count(p.shape, 1)
        K.log_loss_rows(p.data, label.data, _losses.values(self, items), classes, LEAST)
        _losses.mean(self, items, loss, items)
        self.doubt(loss.data, lambda: _labels.check(self, label, classes, may_ignore=False))

    def backward(self, bottom, top):
        (p, label), (loss,) = bottom, top
        classes = count(p.shape, 1)
        K.log_loss_backward(p.data, label.data, loss.diff, self.state["divisor"], p.diff, classes, LEAST)
