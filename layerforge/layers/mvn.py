"""MVN."""

from ..kernels import Kernels
from ..layer import Layer, count
from ._kept import kept, kept_shapes

B = Kernels("broadcast.h")
K = Kernels("moments.h")


class MVN(Layer):
    """Each channel of each item to mean 0 and variance 1: y = (x - mean) / (standard deviation + eps).

    Bottom x: (N, C, ...), where (N,) counts as one channel; top y: the same, and maybe the same blob. With
    ``across_channels`` mean and variance are those of an item's channels together. ``normalize_variance: false`` only
    takes the mean away. ``eps`` (1e-9) is added to the deviation, not to the variance, as in Caffe.

    dx = (dy - mean(dy) - y mean(dy y)) / (standard deviation + eps), which leaves the share of eps in the derivative
    out; without the variance, dx = dy - mean(dy).
    """

    in_place = True

    def layout(self, x):
        """How many rows there are, how many statistics, and how many elements make a row."""
        self.require(len(x) > 0, f"{self.describe()} must have an axis of items", "bottom")
        rows = count(x, 0, 2)
        return rows, x[0] if self.options.across_channels else rows, count(x, 2)

    def top_shapes(self, x):
        self.layout(x)
        return [x]

    def state_shapes(self, x):
        _, statistics, _ = self.layout(x)
        each = ((statistics,), self.dtype)
        names = ("mean", "square", "scale", "sum", "dot")
        return {**dict.fromkeys(names, each), **kept_shapes(self, x)}

    def scratch_size(self, x):
        rows, statistics, _ = self.layout(x)
        return 0 if rows == statistics else 2 * rows

    def scale(self):
        return self.state["scale"] if self.options.normalize_variance else None

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        rows, statistics, inner = self.layout(x.shape)
        mean, square = self.state["mean"], self.state["square"]
        if not x.count:
            return
        if rows == statistics:
            K.row_moments(x.data, mean, square, inner)
        else:
            each = rows // statistics
            row_mean, row_square = self.scratch[:rows], self.scratch[rows : 2 * rows]
            K.row_moments(x.data, row_mean, row_square, inner)
            K.group_moments(row_mean, row_square, mean, square, each, inner)
            inner *= each
        if self.options.normalize_variance:
            K.deviation_scale(square, self.state["scale"], inner, self.options.eps)
        K.normalise(x.data, mean, self.scale(), y.data, self.state.get("x"), statistics, inner)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        rows, statistics, inner = self.layout(x.shape)
        mean, total, dot = self.state["mean"], self.state["sum"], self.state["dot"]
        values = kept(self, x)
        if not x.count:
            return
        if rows == statistics:
            K.row_products(values, mean, y.diff, total, dot, statistics, 1, inner)
        else:
            each = rows // statistics
            sums, dots = self.scratch[:rows], self.scratch[rows : 2 * rows]
            K.row_products(values, mean, y.diff, sums, dots, statistics, each, inner)
            B.sum_rows(sums, total, each, 1)
            B.sum_rows(dots, dot, each, 1)
            inner *= each
        K.normalise_backward(values, mean, self.scale(), y.diff, total, dot, x.diff, statistics, inner, inner)
