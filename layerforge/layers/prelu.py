"""PReLU."""

from .. import schema
from ..kernels import Kernels
from ..layer import Layer, count
from ._kept import keep, kept, kept_shapes

K = Kernels("broadcast.h")


class PReLU(Layer):
    """Rectifier with learnt slopes, y = x where x > 0, else slope_c * x, for channel c.

    Bottom x and top y: one shape (N, C, ...), which may be the same blob. Parameter slope: (C,), or () with
    ``channel_shared``; it starts at 0.25 unless ``filler`` says otherwise. The gradients are dx = dy where x > 0, else
    slope_c * dy, and dslope_c = sum of dy * x where x <= 0. He et al., ICCV 2015.
    Raises ShapeError for fewer than two axes.
    """

    in_place = True
    blocks = "alike"

    def setup(self, x):
        self.require(len(x) >= 2, f"{self.describe()} must have at least 2 axes, the second of them channels")
        shared = self.options.channel_shared
        default = schema.message("FillerParameter")(type="constant", value=0.25)
        filler = self.options.filler if self.options.HasField("filler") else default
        self.parameter("slope", () if shared else (x[1],), filler)

    def sizes(self, x):
        """The number of slopes and of elements behind axis 1, or, of one slope, the whole of an item."""
        slopes = self.params["slope"].count
        return slopes, count(x, 2) if self.params["slope"].shape else count(x, 1)

    def meeting(self, x):
        """The number of slopes, and of elements one behind the other that meet one of them."""
        slopes, inner = self.sizes(x.shape)
        return slopes, 1 if self.side_by_side(x) else inner

    def side_by_side(self, x):
        """Whether elements that lie so meet one slope each."""
        return x.block > 1 and self.params["slope"].count == x.block

    def takes_blocks(self, block, top):
        """All channels of a position, on a GPU."""
        return not self.device.is_host

    def state_shapes(self, x):
        return kept_shapes(self, x)

    def scratch_size(self, x):
        slopes, _ = self.sizes(x)
        return x[0] * slopes

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        keep(self, x)
        K.prelu_forward(x.data, self.params["slope"].data, y.data, *self.meeting(x))

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        slope, before = self.params["slope"], kept(self, x)
        slopes, inner = self.sizes(x.shape)
        if slope.needs_diff:
            if self.side_by_side(x):
                K.prelu_lanes(before, y.diff, self.scratch, inner, slopes)
            else:
                K.prelu_rows(before, y.diff, self.scratch, inner)
            K.sum_columns(self.scratch, slope.diff, x.shape[0], slopes, True)
        if x.needs_diff:
            K.prelu_backward(before, slope.data, y.diff, x.diff, *self.meeting(x))
