"""InnerProduct."""

from .. import engines
from ..errors import DefinitionError
from ..fusion import Rectify, leading
from ..kernels import Kernels
from ..layer import Layer, count

A = Kernels("activation.h")
B = Kernels("broadcast.h")
K = Kernels("inner_product.h")


class InnerProduct(Layer):
    """A fully connected layer, y = x W^T + b.

    Bottom x: (batch..., rest...), split before ``axis`` (default 1; negative counts from the back): everything from
    there on is one vector of K values. Top y: (batch..., num_output). Weights W (num_output, K), or (K, num_output)
    with ``transpose: true``; bias b (num_output,) unless ``bias_term: false``. dW += dy^T x, db += the sum of dy over
    the batch, dx = dy W. An empty batch is allowed. ``engine`` chooses how to compute it.

    Raises DefinitionError for a missing num_output; ShapeError for an axis that x does not have, and for a number of
    values that is not that the weights were made for.
    """

    writes_diffs = True
    absorbs_backward = True

    def setup(self, x):
        options = self.options
        if options.num_output < 1:
            missing = not options.HasField("num_output")
            message = (
                "num_output is missing: write num_output: 10, say" if missing else "num_output: 0 must be at least 1"
            )
            raise self.error(message, *() if missing else ("num_output",), kind=DefinitionError)
        self.values = count(x, self.axis(options.axis, len(x)))
        shape = (options.num_output, self.values)
        self.parameter("weight", shape[::-1] if options.transpose else shape, options.weight_filler)
        if options.bias_term:
            self.parameter("bias", (options.num_output,), options.bias_filler)

    def top_shapes(self, x):
        axis = self.axis(self.options.axis, len(x))
        self.require(
            count(x, axis) == self.values,
            f"{self.describe()} has {count(x, axis)} values from axis {self.options.axis} on,"
            f" but the weights were made for {self.values}",
            "bottom",
        )
        return [(*x[:axis], self.options.num_output)]

    def absorbs(self, steps, learns):
        """On a GPU, a rectifier: it is computed where the bias is added, and its gradient where that of the bias is."""
        return leading(steps, Rectify) if "bias" in self.params and not self.device.is_host else 0

    def flops(self, bottom_shapes, top_shapes):
        return self.values * count(top_shapes[0])

    @property
    def engine(self):
        """What computes it."""
        name = type(self.options).Engine.Name(self.options.engine)
        return engines.products(self.device.name, name, self.dtype)

    def scratch_size(self, x):
        return self.engine.scratch(count(x) // self.values if self.values else 0, self.values, self.options.num_output)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        w, b = self.params["weight"], self.params.get("bias")
        out = y.data.reshape(-1, self.options.num_output)
        rows = x.data.reshape(len(out), self.values)
        slope = self.joined.slope if self.joined.steps else None
        self.engine.forward(rows, w.data, b.data if b else None, out, self.options.transpose, self.scratch, slope=slope)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        w, b = self.params["weight"], self.params.get("bias")
        dy = y.diff.reshape(-1, self.options.num_output)
        beside = not self.engine.needs_workspace(len(dy), self.values, self.options.num_output)
        if self.joined.steps:
            self.rectified(y.data, dy, b)
        with self.device.beside() as branch:
            if b and b.needs_diff and not self.joined.steps:
                B.sum_columns(dy, b.diff, len(dy), b.count, self.adds("bias"))
            if w.needs_diff and beside:
                self.backward_weights(x, dy, w)
        if w.needs_diff and not beside:
            self.backward_weights(x, dy, w)
        if x.needs_diff:
            dx = x.diff.reshape(len(dy), self.values)
            self.engine.backward_data(dy, w.data, dx, self.options.transpose)
        branch.join()

    def backward_weights(self, x, dy, w):
        rows, add = x.data.reshape(len(dy), self.values), self.adds("weight")
        self.engine.backward_weights(rows, dy, w.diff, self.options.transpose, self.scratch, add=add)

    def rectified(self, y, dy, b):
        """Makes dy, the gradient of what was rectified to y, that of what it was before, and sums it for the bias."""
        slope = self.joined.slope
        if b.needs_diff:
            K.rectified_bias(y, dy, b.diff, len(dy), b.count, slope, self.adds("bias"), count=b.count)
        else:
            A.relu_backward(y, dy, dy, slope)
