"""SigmoidCrossEntropyLoss."""

from ..kernels import Kernels
from ..layer import Layer, count
from . import _losses

K = Kernels("labels.h")


class SigmoidCrossEntropyLoss(Layer):
    """A logistic loss for each value: loss = sum of -t log s - (1 - t) log(1 - s) / divisor, s = 1 / (1 + exp(-x)).

    Bottom 0: scores x (N, ...). Bottom 1: targets t, as many, probabilities or 0 and 1; they get no gradient. Top: ().
    dx = (s - t) * dloss / divisor. It is computed as max(x, 0) - x t + log(1 + exp(-|x|)), so nothing overflows.

    ``loss_param``: values whose target, its fraction cut off, is ``ignore_label`` do not count. ``normalization`` is
    the divisor: BATCH_SIZE (default), N; FULL, all values; VALID, the values that count; NONE, 1; PRE_FIXED,
    ``pre_fixed_normalizer``. It is never less than 1. ``normalize`` is its older spelling: true is VALID, false is
    BATCH_SIZE; normalization has precedence. The sum is formed in double precision, in an order that the number of
    values alone decides. NaN in x or t is NaN in the loss.

    Raises ShapeError for a number of targets that is not that of the scores.
    """

    bottoms = 2
    loss = True
    tells = True
    differentiable = (True, False)
    Options = "loss_param"

    def setup(self, x, target):
        self.normalization = _losses.Normalization(self, default="BATCH_SIZE")

    def top_shapes(self, x, target):
        self.require(len(x) > 0, f"{self.describe(0)} must have an axis of items", "bottom", 0)
        self.require(
            count(target) == count(x), f"{self.describe(1)} must hold as many values as {self.describe(0)}", "bottom", 1
        )
        return [()]

    def state_shapes(self, x, target):
        return {"divisor": ((1,), self.dtype)}

    def scratch_size(self, x, target):
        return _losses.scratch_size(count(x))

    def forward(self, bottom, top):
        (x, target), (loss,) = bottom, top
        K.cross_entropy_values(x.data, target.data, _losses.values(self, x.count), *self.normalization.ignore)
        divisor = self.normalization.divisor(x.shape[0], count(x.shape, 1))
        _losses.mean(self, x.count, loss, divisor)

    def backward(self, bottom, top):
        (x, target), (loss,) = bottom, top
        divisor = self.state["divisor"]
        K.cross_entropy_backward(x.data, target.data, loss.diff, divisor, x.diff, *self.normalization.ignore)
