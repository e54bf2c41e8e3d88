"""AbsVal."""

from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("functions.h")


class AbsVal(Layer):
    """Absolute value, y = |x|.

    Bottom x and top y: one shape, any rank; they may be the same blob. The gradient is dx = dy * sign(x), 0 at 0.
    """

    in_place = True
    blocks = "alike"

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.abs_forward(x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.abs_backward(kept(self, x), y.diff, x.diff)
