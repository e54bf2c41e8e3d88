"""Sigmoid."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("activation.h")


class Sigmoid(Layer):
    """Logistic function, y = 1 / (1 + exp(-x)).

    Bottom x and top y: one shape, any rank; they may be the same blob. It neither overflows nor warns: y is exactly
    0 or 1 far from 0. The gradient is dx = dy * y * (1 - y).
    """

    in_place = True
    blocks = "alike"
    needs_top = "values"

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.sigmoid_forward(x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.sigmoid_backward(y.data, y.diff, x.diff)
