"""HingeLoss."""

from ..kernels import Kernels
from ..layer import Layer, count
from . import _labels, _losses

K = Kernels("labels.h")


class HingeLoss(Layer):
    """One against all: loss = sum over items n and classes k of max(0, 1 - s_nk x_nk)^p / N.

    s_nk is 1 for the label's class, else -1; p is 1 with ``norm: L1`` (default), 2 with L2.
    Bottom 0: scores x (N, ...), all values of an item being its classes. Bottom 1: N labels, in any shape, each a class
    from 0 on; fractions are cut off. It gets no gradient. Top: (). dx = -s_nk p max(0, 1 - s_nk x_nk)^(p - 1) dloss / N
    where the margin is above 0, and 0 at 0. The loss of an empty batch is 0.

    Raises DataError for a label that is no class, with its item and value; ShapeError for a number of labels other than
    N. Crammer & Singer, JMLR, 2001.
    """

    bottoms = 2
    loss = True
    tells = True
    differentiable = (True, False)

    def setup(self, x, label):
        self.norm = self.options.norm  # L1 is 1, L2 is 2

    def top_shapes(self, x, label):
        _labels.require_items(self, x, label)
        return [()]

    def state_shapes(self, x, label):
        return {"divisor": ((1,), self.dtype)}

    def scratch_size(self, x, label):
        return _losses.scratch_size(x[0])

    def forward(self, bottom, top):
        (x, label), (loss,) = bottom, top
        items, classes = x.shape[0], count(x.shape, 1)
        K.hinge_loss_rows(x.data, label.data, _losses.values(self, items), classes, self.norm)
        _losses.mean(self, items, loss, items)
        self.doubt(loss.data, lambda: _labels.check(self, label, classes, may_ignore=False))

    def backward(self, bottom, top):
        (x, label), (loss,) = bottom, top
        classes = count(x.shape, 1)
        K.hinge_loss_backward(x.data, label.data, loss.diff, self.state["divisor"], x.diff, classes, self.norm)
