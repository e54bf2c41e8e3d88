"""Swish."""

from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("rectifiers.h")


class Swish(Layer):
    """Swish, y = x * s with s = 1 / (1 + exp(-beta * x)); also SiLU, for beta 1.

    Bottom x and top y: one shape, any rank; they may be the same blob. The gradient is
    dx = dy * s * (1 + beta * x * (1 - s)). Ramachandran et al., 2017.
    """

    in_place = True
    blocks = "alike"

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.swish_forward(x.data, y.data, self.options.beta)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.swish_backward(kept(self, x), y.diff, x.diff, self.options.beta)
