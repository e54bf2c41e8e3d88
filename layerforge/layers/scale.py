"""Scale."""

from .. import schema
from ..fusion import Affine
from ..kernels import Kernels
from ..layer import Layer
from ._broadcast import check_second, learnt_shape, meeting, meets_channels
from ._kept import keep, kept, kept_shapes

K = Kernels("broadcast.h")


class Scale(Layer):
    """A product with a smaller array, repeated along the other axes, and maybe a sum: y = x * w + b.

    Bottom x: any shape; top y: the same, and maybe the same blob. w is bottom 1 or, without one, the parameter scale;
    its axes are those of x from ``axis`` on (default 1; negative ones count from the back), as many as bottom 1 has
    or ``num_axes`` says (default 1; -1: all, 0: none, a scalar). It starts at 1 unless ``filler`` says otherwise.
    With ``bias_term`` there is a parameter bias of the same shape, which starts at 0 unless ``bias_filler`` says
    otherwise. The gradients are dx = dy * w, dw = the sum of dy * x and db = the sum of dy, over the other axes.
    Raises ShapeError where the shapes do not meet.
    """

    bottoms = (1, 2)
    in_place = True
    blocks = "alike"

    def setup(self, x, w=None):
        o = self.options
        if w is None:
            one = schema.message("FillerParameter")(type="constant", value=1)
            self.parameter("scale", learnt_shape(self, x), o.filler if o.HasField("filler") else one)
        if o.bias_term:
            self.parameter("bias", self.params["scale"].shape if w is None else w, o.bias_filler)

    def top_shapes(self, x, w=None):
        if w is not None:
            check_second(self, x, w)
        return [x]

    def scale(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.params["scale"]

    def takes_blocks(self, block, top):
        """Where w belongs to channels, one by one; a small bottom has no blocks."""
        x, w = self.bottom_shapes[0], self.params["scale"].shape if "scale" in self.params else self.bottom_shapes[1]
        return meets_channels(self, x, w)

    def as_step(self):
        w = self.params.get("scale")
        if w is None or len(w.shape) != 1 or not meets_channels(self, self.bottom_shapes[0], w.shape):
            return None
        return Affine(w, self.params.get("bias"))

    def state_shapes(self, x, w=None):
        return kept_shapes(self, x)

    def scratch_size(self, x, w=None):
        outer, size, _ = meeting(self, x, self.params["scale"].shape if w is None else w)
        return outer * size

    def forward(self, bottom, top):
        x, w, (y,) = bottom[0], self.scale(bottom), top
        bias = self.params["bias"].data if "bias" in self.params else None
        _, size, inner = meeting(self, x.shape, w.shape)
        keep(self, x)
        K.scale_and_shift(x.data, w.data, bias, y.data, size, inner, x.block)

    def backward(self, bottom, top):
        x, w, (y,) = bottom[0], self.scale(bottom), top
        outer, size, inner = meeting(self, x.shape, w.shape)
        bias = self.params.get("bias")
        if bias is not None and bias.needs_diff:
            K.lane_sums(y.diff, None, self.scratch, inner, x.block, count=outer * size)
            K.sum_columns(self.scratch, bias.diff, outer, size, True)
        if w.needs_diff:
            K.lane_sums(y.diff, kept(self, x), self.scratch, inner, x.block, count=outer * size)
            K.sum_columns(self.scratch, w.diff, outer, size, w in self.blobs)
        if x.needs_diff:
            K.scale_and_shift(y.diff, w.data, None, x.diff, size, inner, x.block)
