"""Log."""

import math

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("functions.h")


class Log(Layer):
    """Logarithm, y = log(shift + scale * x) / log(base); base -1, the default, is e.

    Bottom x and top y: one shape, any rank; they may be the same blob. y is -inf at 0 and NaN below. The gradient is
    dx = dy * scale / (shift + scale * x) / log(base). Raises DefinitionError for a base of 1, or of 0 or less, other
    than -1.
    """

    in_place = True

    def setup(self, x):
        o = self.options
        if o.base != -1 and (o.base <= 0 or o.base == 1):
            raise self.error(f"base: {o.base:g} must be positive and not 1, or -1 for e", "base", kind=DefinitionError)
        self.constants = o.scale, o.shift, 1.0 if o.base == -1 else 1 / math.log(o.base)

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.log_forward(x.data, y.data, *self.constants)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.log_backward(kept(self, x), y.diff, x.diff, *self.constants)
