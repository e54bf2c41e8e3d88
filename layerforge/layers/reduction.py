"""Reduction."""

from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("broadcast.h")


class Reduction(Layer):
    """Sums over the trailing axes, times ``coeff``.

    SUM: y = coeff * sum x. MEAN: y = coeff * mean x. ASUM: y = coeff * sum |x|. SUMSQ: y = coeff * sum x^2.
    Bottom x: any shape. Top y: its axes before ``axis`` (default 0, so (); negative ones count from the back). The
    gradients are coeff * dy, the same divided by the count, coeff * dy * sign(x), 0 at 0, and 2 * coeff * dy * x.
    """

    def setup(self, x):
        self.operation = type(self.options).ReductionOp.Name(self.options.operation)
        self.first = self.axis(self.options.axis, len(x))

    def top_shapes(self, x):
        return [x[: self.first]]

    def size(self, x):
        """How many elements make one, and the factor of their sum."""
        inner = count(x, self.first)
        return inner, self.options.coeff / max(inner, 1) if self.operation == "MEAN" else self.options.coeff

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        inner, factor = self.size(x.shape)
        if self.operation == "ASUM":
            K.abs_sum_rows(x.data, y.data, inner, factor)
        elif self.operation == "SUMSQ":
            K.dot_rows(x.data, x.data, y.data, inner, factor)
        else:
            K.sum_rows(x.data, y.data, inner, factor)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        inner, factor = self.size(x.shape)
        if self.operation == "ASUM":
            K.spread_signs(x.data, y.diff, x.diff, inner, factor)
        elif self.operation == "SUMSQ":
            K.spread_products(x.data, y.diff, x.diff, inner, 2 * factor)
        else:
            K.spread_rows(y.diff, x.diff, inner, factor)
