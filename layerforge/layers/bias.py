"""Bias."""

from ..kernels import Kernels
from ..layer import Layer
from ._broadcast import check_second, learnt_shape, meeting, meets_channels

K = Kernels("broadcast.h")


class Bias(Layer):
    """A sum with a smaller array, repeated along the other axes: y = x + b.

    Bottom x: any shape; top y: the same, and maybe the same blob. b is bottom 1 or, without one, the parameter bias;
    its axes are those of x from ``axis`` on (default 1; negative ones count from the back), as many as bottom 1 has
    or ``num_axes`` says (default 1; -1: all, 0: none, a scalar). It starts at 0 unless ``filler`` says otherwise. The
    gradients are dx = dy and db = the sum of dy over the other axes. Raises ShapeError where the shapes do not meet.
    """

    bottoms = (1, 2)
    in_place = True
    blocks = "alike"

    def setup(self, x, b=None):
        if b is None:
            self.parameter("bias", learnt_shape(self, x), self.options.filler)

    def top_shapes(self, x, b=None):
        if b is not None:
            check_second(self, x, b)
        return [x]

    def bias(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.params["bias"]

    def takes_blocks(self, block, top):
        """Where b belongs to channels, one by one; a small bottom has no blocks."""
        x, b = self.bottom_shapes[0], self.params["bias"].shape if "bias" in self.params else self.bottom_shapes[1]
        return meets_channels(self, x, b)

    def scratch_size(self, x, b=None):
        outer, size, _ = meeting(self, x, self.params["bias"].shape if b is None else b)
        return outer * size

    def forward(self, bottom, top):
        x, b, (y,) = bottom[0], self.bias(bottom), top
        _, size, inner = meeting(self, x.shape, b.shape)
        K.scale_and_shift(x.data, None, b.data, y.data, size, inner, x.block)

    def backward(self, bottom, top):
        x, b, (y,) = bottom[0], self.bias(bottom), top
        if b.needs_diff:
            outer, size, inner = meeting(self, x.shape, b.shape)
            K.lane_sums(y.diff, None, self.scratch, inner, x.block, count=outer * size)
            K.sum_columns(self.scratch, b.diff, outer, size, b in self.blobs)
        if x.needs_diff and x.diff is not y.diff:
            x.diff[...] = y.diff
