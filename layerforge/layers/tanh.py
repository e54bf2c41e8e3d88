"""TanH."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("activation.h")


class TanH(Layer):
    """Hyperbolic tangent, y = tanh(x).

    Bottom x and top y: one shape, any rank; they may be the same blob. The gradient is dx = dy * (1 - y^2).
    """

    in_place = True
    needs_top = "values"
    leaves = "signs"
    blocks = "alike"

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.tanh_forward(x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.tanh_backward(y.data, y.diff, x.diff)
