"""Exp."""

import math

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer

K = Kernels("functions.h")


class Exp(Layer):
    """Exponential, y = base ^ (shift + scale * x); base -1, the default, is e.

    Bottom x and top y: one shape, any rank; they may be the same blob. The gradient is dx = dy * y * scale * log(base).
    Raises DefinitionError for a base of 0 or less, other than -1.
    """

    in_place = True
    needs_top = "values"

    def setup(self, x):
        o = self.options
        if o.base != -1 and o.base <= 0:
            raise self.error(f"base: {o.base:g} must be positive, or -1 for e", "base", kind=DefinitionError)
        log_base = 1.0 if o.base == -1 else math.log(o.base)
        self.inner, self.outer = o.scale * log_base, math.exp(o.shift * log_base)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.exp_forward(x.data, y.data, self.inner, self.outer)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.exp_backward(y.data, y.diff, x.diff, self.inner)
