"""Deconvolution."""

from ..engines.columns import sum_channels
from ..kernels import Kernels
from ..layer import Layer
from . import _filters, _windows

K = Kernels("broadcast.h")


class Deconvolution(Layer):
    """Transposed convolution, which spreads each x over a window: y_o(p stride + t) += W_cot x_c(p) for all c, p, t.

    It is the gradient of a `Convolution` by its input: what that reads, this writes. It makes images larger; with
    ``group`` equal to the channels and the filler "bilinear" it interpolates.

    Bottoms x: (..., C, spatial...), all of one shape; ``axis`` (default 1) is that of the channels, the axes before it
    are the batch, the axes after it spatial. Tops y: one for each bottom, (..., num_output, out...), with
    out = stride (size - 1) + dilation (kernel - 1) + 1 - 2 pad along each spatial axis. All bottoms see the same
    weights (C, num_output / group, kernel...) and, unless ``bias_term: false``, the same bias (num_output,). The
    options are those of Convolution. An empty batch is allowed.

    Raises DefinitionError for options that are missing, doubled, 0, or of a number that is neither 1 nor that of the
    spatial axes; ShapeError for a group that does not divide the channels or num_output, padding that leaves nothing of
    the image, bottoms of different shapes, and channels that are not those the weights were made for. Zeiler et al.,
    CVPR 2010; for segmentation: Long et al., CVPR 2015.
    """

    bottoms = (1, None)
    tops = (1, None)
    Options = "convolution_param"

    def setup(self, *bottom_shapes):
        self.channels, self.windows = _filters.read(self, bottom_shapes[0])
        outputs, group = self.options.num_output, self.options.group
        self.parameter("weight", (self.channels, outputs // group, *self.windows.kernel), self.options.weight_filler)
        if self.options.bias_term:
            self.parameter("bias", (outputs,), self.options.bias_filler)

    def top_shapes(self, *bottom_shapes):
        x = bottom_shapes[0]
        axis = _filters.channel_axis(self, bottom_shapes, self.channels, self.windows)
        output = self.windows.input(x[axis + 1 :])
        for out, pad in zip(output, self.windows.pad, strict=True):
            self.require(
                out > 0,
                f"pad: {pad} on both sides leaves nothing of the {out + 2 * pad} that the windows on {self.describe()}"
                " cover: lower pad",
                "pad",
            )
        return [(*x[:axis], self.options.num_output, *output)] * len(bottom_shapes)

    def geometry(self, x):
        """The convolution whose gradient this is: from y to x."""
        axis = len(x) - len(self.windows.kernel) - 1
        y = (*x[:axis], self.options.num_output, *self.windows.input(x[axis + 1 :]))
        return _windows.geometry(y, axis, self.windows, self.channels, self.options.group)

    @property
    def engine(self):
        """What computes it, for the bottoms as they are."""
        return _filters.engine(self, self.geometry(self.bottom_shapes[0]))

    def scratch_size(self, *bottom_shapes):
        g = self.geometry(bottom_shapes[0])
        return max(_filters.engine(self, g).scratch(g), g.batch * g.channels)

    def flops(self, bottom_shapes, top_shapes):
        return sum(self.geometry(x).multiplications for x in bottom_shapes)

    def forward(self, bottom, top):
        weight, bias = self.params["weight"], self.params.get("bias")
        for x, y in zip(bottom, top, strict=True):
            g = self.geometry(x.shape)
            engine = _filters.engine(self, g)
            out = y.data.reshape(g.input_shape)
            engine.backward_data(x.data.reshape(g.output_shape), weight.data, out, g, self.scratch)
            if bias:
                K.shift(out, bias.data, out, g.channels, out.size // (g.batch * g.channels) if g.batch else 1)

    def backward(self, bottom, top):
        weight, bias = self.params["weight"], self.params.get("bias")
        for x, y in zip(bottom, top, strict=True):
            g = self.geometry(x.shape)
            engine = _filters.engine(self, g)
            dy = y.diff.reshape(g.input_shape)
            if weight.needs_diff:
                engine.backward_weights(dy, x.data.reshape(g.output_shape), weight.diff, None, g, self.scratch)
            if bias and bias.needs_diff:
                sum_channels(dy, bias.diff, self.scratch)
            if x.needs_diff:
                engine.forward(dy, weight.data, None, x.diff.reshape(g.output_shape), g, self.scratch)
