"""ContrastiveLoss."""

from ..kernels import Kernels
from ..layer import Layer, count
from . import _losses

B = Kernels("broadcast.h")
E = Kernels("eltwise.h")
K = Kernels("contrastive.h")


class ContrastiveLoss(Layer):
    """Draws pairs that are alike together and the others apart: loss = sum over pairs n of l_n / (2 N).

    With d_n = |a_n - b_n|: l_n = d_n^2 for a pair that is alike, else max(0, margin - d_n)^2, or in the
    ``legacy_version`` max(0, margin - d_n^2). ``margin`` is 1 by default.
    Bottoms a and b: one shape (N, ...). Bottom 2: N numbers, 1 where a pair is alike, 0 where not; fractions are cut
    off. It gets no gradient. Top: (). da = -db = (a - b) / N * dloss for a pair that is alike, else within the margin
    -(a - b) / N * (margin - d) / (d + 1e-4) * dloss, or without the quotient in the legacy version, as in Caffe. The
    loss of an empty batch is 0.

    Raises ShapeError where the shapes do not fit. Hadsell et al., CVPR 2006.
    """

    bottoms = 3
    loss = True
    tells = True
    differentiable = (True, True, False)

    def top_shapes(self, a, b, alike):
        self.require(len(a) > 0, f"{self.describe(0)} must have an axis of pairs", "bottom", 0)
        self.require(
            a[0] == b[0] and count(a) == count(b),
            f"{self.describe(1)} must have the size of axis 0 and the count of {self.describe(0)}",
            "bottom",
            1,
        )
        self.require(
            count(alike) == a[0], f"{self.describe(2)} must hold one number for each of the {a[0]} pairs", "bottom", 2
        )
        return [()]

    def state_shapes(self, a, b, alike):
        return {
            "difference": (a, self.dtype),
            "square": ((a[0],), self.dtype),
            "divisor": ((1,), self.dtype),
        }

    def scratch_size(self, a, b, alike):
        return _losses.scratch_size(a[0])

    def version(self):
        return self.options.margin, self.options.legacy_version

    def forward(self, bottom, top):
        (a, b, alike), (loss,) = bottom, top
        difference, square, pairs = self.state["difference"], self.state["square"], a.shape[0]
        E.sum(a.data, b.data, difference, 1, -1)
        B.dot_rows(difference, difference, square, count(a.shape, 1), 1)
        K.contrastive_values(square, alike.data, _losses.values(self, pairs), *self.version())
        _losses.mean(self, pairs, loss, 2 * pairs)

    def backward(self, bottom, top):
        (a, b, alike), (loss,) = bottom, top
        pairs = self.state["difference"], self.state["square"], alike.data, loss.diff, self.state["divisor"]
        for x, sign in ((a, 1), (b, -1)):
            if x.needs_diff:
                K.contrastive_backward(*pairs, x.diff, count(a.shape, 1), *self.version(), sign)
