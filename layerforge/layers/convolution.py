"""Convolution."""

from functools import partial

from .. import engines
from ..engines.columns import sum_channels
from ..fusion import Affine, Normalise, Rectify, leading
from ..kernels import Kernels
from ..layer import TEST, Layer, count
from . import _filters, _windows
from ._again import Again

K = Kernels("batch_norm.h")


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
    blocks = "each"
    overwrites = True

    def setup(self, *bottom_shapes):
        self.again = Again()
        self.channels, self.windows = _filters.read(self, bottom_shapes[0])
        outputs, inputs = self.options.num_output, self.channels // self.options.group
        self.parameter("weight", (outputs, inputs, *self.windows.kernel), self.options.weight_filler)
        if self.options.bias_term:
            self.parameter("bias", (outputs,), self.options.bias_filler)

    def top_shapes(self, *bottom_shapes):
        x = bottom_shapes[0]
        axis = _filters.channel_axis(self, bottom_shapes, self.channels, self.windows)
        output = _filters.require_room(self, x[axis + 1 :], self.windows)
        return [(*x[:axis], self.options.num_output, *output)] * len(bottom_shapes)

    def geometry(self, x):
        axis = len(x) - len(self.windows.kernel) - 1
        return _windows.geometry(x, axis, self.windows, self.options.num_output, self.options.group)

    @property
    def engine(self):
        """What computes it, for the bottoms as they are."""
        return _filters.engine(self, self.geometry(self.bottom_shapes[0]), self.block)

    def takes_blocks(self, block, top):
        if not self.device.is_host and self.math_mode != "tf32":
            return False  # a GPU's kernels for unrounded products like plain order better
        g = self.geometry(self.bottom_shapes[0])
        lies = (1, block) if top else (block, 1)
        alone = len(self.bottom_shapes) == 1 and self.axis(self.options.axis, len(self.bottom_shapes[0])) == 1
        weight, bias = self.params["weight"], self.params.get("bias")
        sums_alone = bias is not None and bias.needs_diff and not weight.needs_diff
        return alone and not sums_alone and _filters.engine(self, g, lies) is not None

    def let_go(self):
        self.again = Again()

    def gain_by_whole(self):
        return engines.gain_by_whole(self.device.name, self.geometry(self.bottom_shapes[0]), self.dtype)

    def absorbs(self, steps, learns):
        """Where no backward pass follows: what is done to each channel, then a rectifier. Elsewhere, and on a GPU: a
        rectifier."""
        if learns or not self.device.is_host:
            return leading(steps, Rectify) if self.rectifies(steps) else 0
        if self.axis(self.options.axis, len(self.bottom_shapes[0])) != 1:
            return 0
        number = 0
        while leading(steps[number:], Normalise, Affine):
            number += leading(steps[number:], Normalise, Affine)
        return number + leading(steps[number:], Rectify)

    def rectifies(self, steps):
        """Whether the engine computes a rectifier too."""
        if len(self.bottom_shapes) > 1 or steps[0] != Rectify(0):
            return False
        return self.engine.rectifies(self.geometry(self.bottom_shapes[0]), "bias" in self.params)

    @property
    def goes_on(self):
        """Whether it computes what follows of each channel, and not only a rectifier."""
        return bool(self.joined.steps) and self.device.is_host and not self.joined.learns

    def state_shapes(self, *bottom_shapes):
        each = ((self.options.num_output,), self.dtype)
        state = {"factor": each, "shift": each, "zero": each} if self.goes_on else {}
        if self.phase == TEST and (kept := self.engine.kept(self.geometry(bottom_shapes[0]))):
            state["weights"] = ((kept,), self.dtype)
        return state

    @property
    def kept(self):
        """Room for the weights in the engine's own order, in TEST, where they seldom change; or None."""
        return self.state.get("weights")

    def scratch_size(self, *bottom_shapes):
        g = self.geometry(bottom_shapes[0])
        return max(_filters.engine(self, g, self.block).scratch(g), g.batch * g.num_output)

    def flops(self, bottom_shapes, top_shapes):
        return sum(self.geometry(x).multiplications for x in bottom_shapes)

    def forward(self, bottom, top):
        if self.joined.waits:
            (self.waiting,) = bottom
            return
        if self.joined.pending or top[0].moments is not None:
            self.forward_between(bottom[0], top[0])
            return
        slope = self.joined.slope if self.joined.steps else 1.0
        if self.again.run(self, bottom[0], top[0], slope):
            return
        for x, y in zip(bottom, top, strict=True):
            call = self.forward_and_on(x, y, slope) if self.goes_on else self.forward_alone(x, y)
            self.again.keep(call if len(bottom) == 1 else None, self, x, y, slope)

    def forward_alone(self, x, y):
        """A bottom, its top, rectified where the engine does that too; returns what the engine returns."""
        also = {"rectify": True} if self.joined.steps else {}
        weight, bias = self.params["weight"], self.params.get("bias")
        g = self.geometry(x.shape)
        engine = _filters.engine(self, g, (x.block, y.block))
        arrays = x.data.reshape(g.input_shape), weight.data, bias.data if bias else None, y.data.reshape(g.output_shape)
        return engine.forward(*arrays, g, self.scratch, self.kept, **also)

    def forward_between(self, x, y):
        """A bottom that was left to this layer to normalise, or a top whose reader asks for moments, or both."""
        g, weight, bias = self.geometry(x.shape), self.params["weight"], self.params.get("bias")
        before = self.before(x)
        values = (before.values if before else x.data).reshape(g.input_shape)
        arrays = values, weight.data, bias.data if bias else None, y.data.reshape(g.output_shape)
        self.engine.forward_between(*arrays, g, self.scratch, before, y.moments)

    def before(self, x):
        """How a bottom is normalised that was left to this layer."""
        return self.joined.pending[0].pending(x.shape) if self.joined.pending else None

    def takes_pending(self, steps, learns):
        return learns and self.leaves_moments()

    def leaves_sums(self):
        return True

    def leaves_moments(self):
        return len(self.bottom_shapes) == 1 and self.engine.joins_neighbours

    def differentiates(self, step, index):
        alone = len(self.bottom_shapes) == 1
        return alone and self.engine.differentiates_rectifiers

    def may_wait(self, steps):
        return self.engine.adds(self.geometry(self.bottom_shapes[0]))

    def adds_in_place(self, slope):
        engine, g = self.engine, self.geometry(self.bottom_shapes[0])
        return slope in (0, 1) and engine.adds_in_place(g)

    def add_pending(self, term, y, slope):
        if self.again.run(self, self.waiting, y, slope, term):
            return True
        lies_there = term.data.ctypes.data == y.data.ctypes.data
        in_place = lies_there and self.phase == TEST and self.adds_in_place(slope)
        values = y.data if in_place else term.data.copy() if lies_there else term.data
        call = self.forward_and_on(self.waiting, y, slope, values)
        repeatable = in_place or not lies_there  # and not with a copy, which gets old
        self.again.keep(call if repeatable else None, self, self.waiting, y, slope, term)
        return True

    def forward_and_on(self, x, y, slope, term=None):
        """The same, with what follows: y_o = rectify(factor_o * sum of products + shift_o + term)."""
        weight, bias = self.params["weight"].data, self.params.get("bias")
        g, block = self.geometry(x.shape), y.block
        engine = _filters.engine(self, g, (x.block, block))
        y_data = y.data
        x, y = x.data.reshape(g.input_shape), y_data.reshape(g.output_shape)
        if term is not None:
            term = y if term is y_data else term.reshape(g.output_shape)
        factor, shift, zero = self.state["factor"], self.state["shift"], self.state["zero"]
        factor[...] = 1
        shift[...] = bias.data if bias else 0
        for step in self.joined.steps:
            step.then(factor, shift)
        given = (x, weight, factor, shift, y, g, self.scratch, self.kept)
        if slope in (0, 1) and term is None and engine.follows(g):
            return engine.forward_and_on(*given, rectify=slope == 0)
        if slope in (0, 1) and term is not None and engine.adds(g):
            return engine.forward_and_on(*given, rectify=slope == 0, term=term)
        alone = engine.forward(x, weight, None, y, g, self.scratch, self.kept)
        sizes, lanes = (g.num_output, count(g.output), block), g.batch * g.num_output
        if term is None:
            share = (*sizes, 0, g.num_output)
            finish = partial(K.batch_norm_forward, y, zero, factor, None, shift, y, None, slope, *share, count=lanes)
        else:
            of = (y, zero, factor, None, shift, term, *[None] * 4, y, slope)
            finish = partial(K.normalised_sum, *of, *sizes, count=lanes)
        finish()
        return alone and (lambda: (alone(), finish()))

    @property
    def writes_diffs(self):
        return self.engine.writes_diffs

    def backward(self, bottom, top):
        weight, bias = self.params["weight"], self.params.get("bias")
        db = bias.diff if bias and bias.needs_diff else None
        add = self.adds("weight"), self.adds("bias")
        for x, y in zip(bottom, top, strict=True):
            g = self.geometry(x.shape)
            engine = _filters.engine(self, g, (x.block, y.block))
            dy = y.diff.reshape(g.output_shape)
            if engine.joins_neighbours:
                before, behind, y.behind = self.before(x), y.behind, None
                dy = dy if behind is None else behind.dy
                dx = x.diff.reshape(g.input_shape) if x.needs_diff else None
                values = (before.values if before else x.data).reshape(g.input_shape)
                arrays = values, dy, weight.data, dx, weight.diff if weight.needs_diff else None
                engine.backward(*arrays, db, g, self.scratch, before, before and before.sums, behind)
                continue
            if weight.needs_diff:
                only = {} if all(add) else {"add": add}
                engine.backward_weights(x.data.reshape(g.input_shape), dy, weight.diff, db, g, self.scratch, **only)
            elif db is not None:
                sum_channels(dy, db, self.scratch, add[1])
            add = True, True  # to what the first bottom gave
            if x.needs_diff:
                also = {}
                if self.slopes_below:
                    also = {"rectified": x.data.reshape(g.input_shape), "slope": self.slopes_below[0]}
                engine.backward_data(dy, weight.data, x.diff.reshape(g.input_shape), g, self.scratch, **also)
