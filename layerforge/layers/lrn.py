"""LRN."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer, count

E = Kernels("eltwise.h")
K = Kernels("lrn.h")


class LRN(Layer):
    """Local response normalisation: each value is divided by a power of the mean square around it.

    Bottom x and top y: one shape. y = x * s^-beta, with n = ``local_size`` (odd, default 5), ``alpha`` (1), ``beta``
    (0.75), ``k`` (1) and what lies beyond the border counted as 0:

    ACROSS_CHANNELS (default), x (N, C, ...): s = k + alpha / n * sum of x^2 over the n channels around. WITHIN_CHANNEL,
    x (N, C, H, W): s = 1 + alpha / n^2 * sum of x^2 over the n x n window around. As in Caffe, k plays no part here.

    dx = dy s^-beta - 2 alpha beta / n * x * sum over the same neighbours of dy x s^(-beta - 1), n^2 within a channel.
    ``engine`` makes no difference. A NaN is one in all its neighbours' y.

    Raises DefinitionError for an even local_size, ShapeError for a bottom of too few axes. Krizhevsky et al., NIPS
    2012; within a channel: Jarrett et al., ICCV 2009.
    """

    blocks = "alike"

    def setup(self, x):
        options = self.options
        if options.local_size % 2 == 0:
            message = f"local_size: {options.local_size} must be odd, so that the window has a middle"
            raise self.error(message, "local_size", kind=DefinitionError)
        self.within = options.norm_region == options.WITHIN_CHANNEL
        self.numbers = (options.local_size, options.alpha, options.beta)

    def top_shapes(self, x):
        self.require(len(x) >= 2, f"{self.describe()} must have an axis of channels: (N, C, ...)", "bottom")
        message = f"norm_region: WITHIN_CHANNEL is for images (N, C, H, W), not for {self.describe()}"
        self.require(not self.within or len(x) == 4, message, "norm_region")
        return [x]

    def takes_blocks(self, block, top):
        return not self.within

    def state_shapes(self, x):
        return {"scale": (x, self.dtype)} if self.within else {}

    def scratch_size(self, x):
        return count(x) if self.within else 0

    def differentiates(self, step, index):
        return not self.within

    def lies(self, x):
        """x as (channels, positions, block). A GPU takes a position whose channels lie side by side for an image."""
        channels = x.shape[1]
        if x.block == channels and not self.device.is_host:
            return channels, 1, 1
        return channels, count(x.shape, 2), x.block

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        size, alpha, beta = self.numbers
        if self.within:
            scale = self.state["scale"]
            E.product(x.data, x.data, y.data)
            K.within_scale(y.data, scale, *x.shape[2:], size, alpha)
            K.within_forward(x.data, scale, y.data, beta)
        else:
            K.lrn_forward(x.data, y.data, *self.lies(x), *self.numbers, self.options.k)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        size, alpha, beta = self.numbers
        if self.within and x.count:
            scale, ratio = self.state["scale"], self.scratch[: x.count]
            K.within_ratio(x.data, scale, y.diff, ratio, beta)
            K.within_backward(x.data, scale, y.diff, ratio, x.diff, *x.shape[2:], size, alpha, beta)
        elif not self.within:
            numbers = (*self.lies(x), *self.numbers, self.options.k)
            K.lrn_backward(x.data, y.diff, x.diff, *numbers, self.slopes_below.get(0, 1))
