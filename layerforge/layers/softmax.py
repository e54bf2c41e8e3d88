"""Softmax."""

from ..kernels import Kernels
from ..layer import Layer
from ._labels import rows

K = Kernels("softmax.h")


class Softmax(Layer):
    """Scores as probabilities, y_c = exp(x_c) / sum over k of exp(x_k) along one axis.

    Bottom x and top y: one shape, any rank of 1 or more; they may be the same blob. ``axis`` (default 1) is the axis of
    the classes; a negative one counts from the back. dx = y * (dy - sum over k of y_k dy_k).

    The largest score is taken off before exp, so nothing overflows; a NaN or +inf makes its whole row NaN. ``engine``
    makes no difference. Raises ShapeError for an axis that x does not have. Bridle, Neurocomputing, 1990.
    """

    in_place = True
    needs_top = "values"

    def top_shapes(self, x):
        self.axis(self.options.axis, len(x))
        return [x]

    def scratch_size(self, x):
        outer, _, inner = self.rows(x)
        return 2 * outer * inner

    def rows(self, x):
        return rows(x, self.axis(self.options.axis, len(x)))

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        outer, channels, inner = self.rows(x.shape)
        n = outer * inner
        if n * channels:
            maximum, total = self.scratch[:n], self.scratch[n : 2 * n]
            K.softmax_statistics(x.data, maximum, total, channels, inner)
            K.softmax_forward(x.data, maximum, total, y.data, channels, inner)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        outer, channels, inner = self.rows(x.shape)
        if outer * channels * inner:
            dot = self.scratch[: outer * inner]
            K.softmax_dot(y.data, y.diff, dot, channels, inner)
            K.softmax_backward(y.data, y.diff, dot, x.diff, channels, inner)
