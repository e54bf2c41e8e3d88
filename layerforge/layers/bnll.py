"""BNLL."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("functions.h")


class BNLL(Layer):
    """Binomial normal log likelihood, also softplus: y = log(1 + exp(x)).

    Bottom x and top y: one shape, any rank; they may be the same blob. It does not overflow: y = x for large x.
    The gradient is dx = dy / (1 + exp(-x)) = dy * (1 - exp(-y)).
    """

    in_place = True

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.bnll_forward(x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.bnll_backward(y.data, y.diff, x.diff)
