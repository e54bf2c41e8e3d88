"""Convolution."""

from .. import engines
from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from . import _windows

K = Kernels("broadcast.h")


class Convolution(Layer):
    """Learnt filters slid over any number of spatial axes: y_o = b_o + sum over c, taps t of W_oct * x_c(o stride + t).

    Bottoms x: (..., C, spatial...), all of one shape; ``axis`` (default 1) is that of the channels, the axes before it
    are the batch, the axes after it spatial, of which there may be none. Tops y: one for each bottom, (..., num_output,
    out...), with out = floor((size + 2 pad - dilation (kernel - 1) - 1) / stride) + 1 along each spatial axis. Beyond
    the border x is 0. All bottoms see the same weights (num_output, C / group, kernel...) and, unless ``bias_term:
    false``, the same bias (num_output,).

    ``kernel_size``, ``stride`` (1), ``pad`` (0) and ``dilation`` (1) are given once for all axes or once for each; on
    two axes also as kernel_h and kernel_w, and so on. ``group``: output channels see only the input channels of their
    group. ``engine`` chooses how to compute it; ``force_nd_im2col`` makes no difference. An empty batch is allowed.

    Raises DefinitionError for options that are missing, doubled, 0, or of a number that is neither 1 nor that of the
    spatial axes; ShapeError for a group that does not divide the channels or num_output, a kernel that is larger than
    the padded image, bottoms of different shapes, and channels that are not those the weights were made for. LeCun et
    al., Neural Computation, 1989; groups: Krizhevsky et al., NIPS 2012; dilation: Yu & Koltun, ICLR 2016.
    """

    bottoms = (1, None)
    tops = (1, None)

    def setup(self, *bottom_shapes):
        x, options = bottom_shapes[0], self.options
        axis = self.axis(options.axis, len(x))
        self.channels, outputs, group = x[axis], options.num_output, options.group
        for field, value in (("num_output", outputs), ("group", group)):
            if value < 1:
                missing = not options.HasField(field)
                message = f"{field} is missing: write {field}: 64, say" if missing else f"{field}: 0 must be at least 1"
                raise self.error(message, *() if missing else (field,), kind=DefinitionError)
        self.windows = _windows.read(self, len(x) - axis - 1)
        self.require(self.channels > 0, f"{self.describe()} has no channels on axis {options.axis}", "bottom")
        self.require(
            self.channels % group == 0,
            f"group: {group} must divide the {self.channels} channels of {self.describe()}",
            "group",
        )
        self.require(outputs % group == 0, f"group: {group} must divide num_output: {outputs}", "group")
        self.parameter("weight", (outputs, self.channels // group, *self.windows.kernel), options.weight_filler)
        if options.bias_term:
            self.parameter("bias", (outputs,), options.bias_filler)
        self.engine = engines.convolution(self.device, type(options).Engine.Name(options.engine))

    def top_shapes(self, *bottom_shapes):
        first = bottom_shapes[0]
        self.require(
            len(self.param.top) == len(bottom_shapes),
            f"{len(self.param.top)} tops for {len(bottom_shapes)} bottoms: each bottom has a top of its own",
            "top",
        )
        for i, shape in enumerate(bottom_shapes):
            message = f"{self.describe(i)} must have the shape of {self.describe(0)}: they share the weights"
            self.require(shape == first, message, "bottom", i)
        axis = len(first) - len(self.windows.kernel) - 1
        self.require(
            axis == self.axis(self.options.axis, len(first)) and first[axis] == self.channels,
            f"{self.describe()} must have {self.channels} channels on axis {self.options.axis} and"
            f" {len(self.windows.kernel)} spatial axes, as when the weights were made",
            "bottom",
        )
        output = self.windows.output(first[axis + 1 :])
        for extent, size, pad, out in zip(
            self.windows.extent, first[axis + 1 :], self.windows.pad, output, strict=True
        ):
            self.require(
                out > 0,
                f"a window of {extent} is larger than the {size + 2 * pad} that {self.describe()} has with its padding:"
                " lower kernel_size or dilation, or raise pad",
                "kernel_size",
            )
        return [(*first[:axis], self.options.num_output, *output)] * len(bottom_shapes)

    def geometry(self, x):
        axis = len(x) - len(self.windows.kernel) - 1
        return _windows.geometry(x, axis, self.windows, self.options.num_output, self.options.group)

    def scratch_size(self, *bottom_shapes):
        g = self.geometry(bottom_shapes[0])
        return max(self.engine.scratch(g), g.batch * g.num_output)

    def flops(self, bottom_shapes, top_shapes):
        return sum(self.geometry(x).multiplications for x in bottom_shapes)

    def forward(self, bottom, top):
        weight, bias = self.params["weight"], self.params.get("bias")
        for x, y in zip(bottom, top, strict=True):
            g = self.geometry(x.shape)
            x_data, y_data = x.data.reshape(g.input_shape), y.data.reshape(g.output_shape)
            self.engine.forward(x_data, weight.data, bias.data if bias else None, y_data, g, self.scratch)

    def backward(self, bottom, top):
        weight, bias = self.params["weight"], self.params.get("bias")
        db = bias.diff if bias and bias.needs_diff else None
        for x, y in zip(bottom, top, strict=True):
            g = self.geometry(x.shape)
            dy = y.diff.reshape(g.output_shape)
            if weight.needs_diff:
                self.engine.backward_weights(x.data.reshape(g.input_shape), dy, weight.diff, db, g, self.scratch)
            elif db is not None:
                n = g.batch * g.num_output
                K.sum_rows(dy, self.scratch[:n], dy.size // n if n else 1, 1)
                K.sum_columns(self.scratch[:n], db, g.batch, g.num_output, True)
            if x.needs_diff:
                self.engine.backward_data(dy, weight.data, x.diff.reshape(g.input_shape), g, self.scratch)
