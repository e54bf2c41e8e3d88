"""ELU."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("rectifiers.h")


class ELU(Layer):
    """Exponential linear unit, y = x where x > 0, else alpha * (exp(x) - 1).

    Bottom x and top y: one shape, any rank; they may be the same blob, for an alpha of 0 or more. The gradient is
    dx = dy where x > 0, else dy * (y + alpha), which is dy * alpha at 0. Clevert et al., ICLR 2016.
    """

    in_place = True
    needs_top = "values"
    leaves = "signs"

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.elu_forward(x.data, y.data, self.options.alpha)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.elu_backward(x.data, y.data, y.diff, x.diff, self.options.alpha)
