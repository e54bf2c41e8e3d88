"""LSTMUnit."""

from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("recurrent.h")


class LSTMUnit(Layer):
    """One step of a long short-term memory: c = f c' + i g; h = o tanh(c).

    i, f, o = 1 / (1 + exp(-x)) and g = tanh(x) are those of the four parts of the gates x, in this order; f is times
    cont, which is 0 where a sequence begins, and then c' does not count.
    Bottoms: c' (1, N, D), the cell before; x (1, N, 4 D); cont (1, N), which gets no gradient. Tops: c and h (1, N, D).
    The derivative of f is taken as f (1 - f), which is that for a cont of 0 or 1.
    Raises ShapeError where the shapes do not fit. Hochreiter & Schmidhuber, Neural Computation, 1997.
    """

    bottoms = 3
    tops = 2
    differentiable = (True, True, False)

    def top_shapes(self, before, x, cont):
        self.require(
            len(before) == 3 and before[0] == 1,
            f"{self.describe(0)} must be (1, N, D), one step of N sequences",
            "bottom",
        )
        _, batch, hidden = before
        for i, shape, wanted in ((1, x, (1, batch, 4 * hidden)), (2, cont, (1, batch))):
            self.require(
                shape == wanted, f"{self.describe(i)} must be {wanted}, to fit {self.describe(0)}", "bottom", i
            )
        return [before, before]

    def state_shapes(self, before, x, cont):
        return {"gates": (x, self.dtype), "cell": (before, self.dtype)}

    def scratch_size(self, before, x, cont):
        return count(x) + count(before)

    def forward(self, bottom, top):
        (before, x, cont), (c, h) = bottom, top
        gates, cell = self.state["gates"], self.state["cell"]
        K.lstm_forward(x.data, cont.data, before.data, gates, cell, h.data, before.shape[2], count=before.count)
        c.data[...] = cell

    def backward(self, bottom, top):
        (before, x, cont), (c, h) = bottom, top
        gates, cell = self.state["gates"], self.state["cell"]
        dx = x.diff if x.needs_diff else self.scratch[: x.count]
        d_before = before.diff if before.needs_diff else self.scratch[x.count :]
        dh, dc = (y.diff if y.needs_diff else None for y in (h, c))
        hidden = before.shape[2]
        K.lstm_backward(gates, cont.data, before.data, cell, dh, None, dc, dx, d_before, hidden, count=before.count)
