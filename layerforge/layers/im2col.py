"""Im2col."""

import math

from ..kernels import Kernels
from ..layer import Layer, count
from . import _filters, _windows

K = Kernels("im2col.h")


class Im2col(Layer):
    """The patches under a convolution's window as channels: y_(c, t)(o) = x_c(o stride - pad + t dilation), 0 outside.

    Bottom x: (..., C, spatial...); ``axis`` (default 1) is that of the channels. Top y: (..., C * taps, out...), the
    channel of tap t being c * taps + t, with out = floor((size + 2 pad - dilation (kernel - 1) - 1) / stride) + 1 along
    each spatial axis. dx is the sum of dy over the patches that a position is in. The options are those of
    `Convolution` that concern its windows, in ``convolution_param``; ``force_nd_im2col`` makes no difference.

    Raises DefinitionError for options that are missing, doubled, 0, or of a number that is neither 1 nor that of the
    spatial axes; ShapeError for a kernel that is larger than the padded image, and another number of axes than at
    first.
    """

    Options = "convolution_param"

    def setup(self, x):
        axis = self.axis(self.options.axis, len(x))
        self.windows = _windows.read(self, len(x) - axis - 1)

    def top_shapes(self, x):
        axis, axes = self.axis(self.options.axis, len(x)), len(self.windows.kernel)
        self.require(
            len(x) - axis - 1 == axes, f"{self.describe()} must have {axes} spatial axes, as it had at first", "bottom"
        )
        output = _filters.require_room(self, x[axis + 1 :], self.windows)
        return [(*x[:axis], x[axis] * math.prod(self.windows.kernel), *output)]

    def layout(self, x):
        """What the kernels take: how many channels of images there are, how many windows each has, and the axes."""
        axis = len(x) - len(self.windows.kernel) - 1
        geometry = _windows.geometry(x, axis, self.windows, 1, 1)
        return count(x, 0, axis + 1), math.prod(geometry.output), self.device.constant(geometry.shape)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        planes, windows, shape = self.layout(x.shape)
        K.im2col(x.data, y.data, shape, count=planes * windows)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        _, _, shape = self.layout(x.shape)
        K.col2im(y.diff, x.diff, shape)
