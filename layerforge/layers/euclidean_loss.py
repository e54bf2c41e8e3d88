"""EuclideanLoss."""

from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("eltwise.h")


class EuclideanLoss(Layer):
    """Half the mean squared distance, loss = sum over n of |x_n - t_n|^2 / (2 N), for regression.

    Bottoms x and t: one count and one size N of axis 0, (N, ...) each. Top: (). The gradients are +-(x - t) / N, and
    both bottoms may get theirs. The loss of an empty batch is 0. Raises ShapeError where the shapes do not fit.
    """

    bottoms = 2
    loss = True

    def top_shapes(self, x, t):
        self.require(
            len(x) > 0 and x[:1] == t[:1] and count(x) == count(t),
            f"{self.describe(1)} must have the size of axis 0 and the count of {self.describe(0)}",
            "bottom",
            1,
        )
        return [()]

    def state_shapes(self, x, t):
        return {"difference": (x, self.dtype)}

    def forward(self, bottom, top):
        (x, t), (loss,) = bottom, top
        difference = self.state["difference"]
        K.sum(x.data, t.data, difference, 1, -1)
        row = difference.reshape(1, -1)
        # (1, K) @ (K, 1)
        self.device.gemm(row, row, loss.data.reshape(1, 1), transpose_b=True, alpha=0.5 / max(x.shape[0], 1))

    def backward(self, bottom, top):
        (loss,) = top
        for x, sign in zip(bottom, (1, -1), strict=True):
            if x.needs_diff:
                K.scale_by(self.state["difference"], loss.diff, x.diff, sign / max(x.shape[0], 1))
