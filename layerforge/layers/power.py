"""Power."""

from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("functions.h")


class Power(Layer):
    """Power of a linear function, y = (shift + scale * x) ^ power.

    Bottom x and top y: one shape, any rank; they may be the same blob. With power 0, y is 1 everywhere; a negative
    number to a broken power is NaN. The gradient is dx = dy * power * scale * (shift + scale * x) ^ (power - 1).
    """

    in_place = True
    blocks = "alike"

    def state_shapes(self, x):
        return {} if self.options.power in (0, 1) else kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        o = self.options
        keep(self, x)
        if o.power == 1:
            K.affine(x.data, y.data, o.scale, o.shift)
        elif o.power == 2:
            K.square_forward(x.data, y.data, o.scale, o.shift)
        else:
            K.power_forward(x.data, y.data, o.scale, o.shift, o.power)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        o = self.options
        if o.power == 0 or o.scale == 0:
            x.diff[...] = 0
        elif o.power == 1:
            K.affine(y.diff, x.diff, o.scale, 0)
        elif o.power == 2:
            K.square_backward(kept(self, x), y.diff, x.diff, o.scale, o.shift)
        else:
            K.power_backward(kept(self, x), y.diff, x.diff, o.scale, o.shift, o.power)
