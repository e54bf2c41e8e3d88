"""BNLL."""

from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("functions.h")


class BNLL(Layer):
    """Binomial normal log likelihood, also softplus: y = log(1 + exp(x)).

    Bottom x and top y: one shape, any rank; they may be the same blob. It does not overflow: y = x for large x.
    The gradient is dx = dy / (1 + exp(-x)).
    """

    in_place = True

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.bnll_forward(x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.bnll_backward(kept(self, x), y.diff, x.diff)
