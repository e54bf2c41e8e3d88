"""Threshold."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("rectifiers.h")


class Threshold(Layer):
    """A step, y = 1 where x > threshold, else 0. It has no gradient.

    Bottom x and top y: one shape, any rank; they may be the same blob. NaN gives 0.
    """

    in_place = True
    differentiable = False

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.threshold_forward(x.data, y.data, self.options.threshold)
