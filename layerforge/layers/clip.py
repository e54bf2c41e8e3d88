"""Clip."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from ._kept import keep, kept, kept_shapes

K = Kernels("rectifiers.h")


class Clip(Layer):
    """Values held within bounds, y = min(max(x, low), high), for the options ``min`` and ``max``.

    Bottom x and top y: one shape, any rank; they may be the same blob. The gradient is dx = dy where low <= x <= high,
    both included, else 0. NaN stays NaN. Raises DefinitionError unless both bounds are given, min not above max.
    """

    in_place = True
    blocks = "alike"
    leaves = "values"

    def setup(self, x):
        for bound in ("min", "max"):
            if not self.options.HasField(bound):
                raise self.error(f"{bound} is missing: Clip needs min and max", kind=DefinitionError)
        self.bounds = self.options.min, self.options.max
        if self.options.min > self.options.max:
            message = f"min: {self.options.min:g} must not be above max: {self.options.max:g}"
            raise self.error(message, "min", kind=DefinitionError)

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.clip_forward(x.data, y.data, *self.bounds)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.clip_backward(kept(self, x), y.diff, x.diff, *self.bounds)
