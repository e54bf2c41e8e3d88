"""ReLU."""

from ..fusion import Rectify
from ..kernels import Kernels
from ..layer import Layer

K = Kernels("activation.h")


class ReLU(Layer):
    """Rectified linear unit, y = max(x, 0) + negative_slope * min(x, 0).

    Bottom x and top y: one shape, any rank; they may be the same blob, for a negative_slope of 0 or more.
    The derivative at 0 is negative_slope. Nair & Hinton, ICML 2010; leaky: Maas et al., ICML 2013.
    """

    in_place = True
    blocks = "alike"
    needs_top_in_place = "signs"

    def setup(self, x):
        slope = self.options.negative_slope
        self.leaves = "values" if slope == 0 else "signs" if slope > 0 else ""

    def as_step(self):
        slope = self.options.negative_slope
        return Rectify(slope) if slope >= 0 else None

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        K.relu_forward(x.data, y.data, self.options.negative_slope)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        # In place, x.data already holds y; for a slope >= 0 its sign is that of the old x.
        K.relu_backward(x.data, y.diff, x.diff, self.options.negative_slope)
