"""RNN."""

from ..kernels import Kernels
from ._recurrent import Recurrent

A = Kernels("activation.h")
B = Kernels("broadcast.h")
K = Kernels("recurrent.h")


class RNN(Recurrent):
    """A simple recurrent net over sequences, with an output layer: y_t = tanh(W_ho h_t + b_o), where

    h_t = tanh(W_xh x_t + b_h + W_xh_static x_static + W_hh h_t-1). Where cont is 0 a sequence begins: h_t-1 is 0.

    Bottoms: x (T, N, ...), T steps of N sequences, each value of a step being an input; cont (T, N), 0 or 1, which gets
    no gradient; maybe x_static (N, ...), the same in all steps; with ``expose_hidden`` also h_0 (1, N, D), D being
    ``num_output``. Tops: y (T, N, D), and with expose_hidden h_T (1, N, D). Without it, the state after the last step
    is that before the first step of the next pass, where cont is not 0; at first, and when N changes, it is 0.

    Parameters, in Caffe's order: W_xh (D, K), b_h (D,), W_xh_static (D, K_static) if there is such a bottom, W_hh
    (D, D), W_ho (D, D), b_o (D,). Gradients go back through all T steps, to h_0 where it is a bottom; that of h_T is
    not passed on, as in Caffe. ``debug_info`` makes no difference.

    Raises DefinitionError for a missing num_output and a number of bottoms or tops that does not fit expose_hidden,
    ShapeError where shapes do not fit each other or the weights. Elman, Cognitive Science, 1990.
    """

    bottoms = (2, 4)
    tops = (1, 2)
    states = ("h",)
    parts = 1
    names = ("W_xh", "b_h", "W_xh_static", "W_hh")

    def setup(self, *bottom_shapes):
        super().setup(*bottom_shapes)
        self.parameter("W_ho", (self.hidden, self.hidden), self.options.weight_filler)
        self.parameter("b_o", (self.hidden,), self.options.bias_filler)

    def state_shapes(self, *bottom_shapes):
        shapes = super().state_shapes(*bottom_shapes)
        return {**shapes, "output": shapes["before"]}

    def flops(self, bottom_shapes, top_shapes):
        steps, batch = bottom_shapes[0][:2]
        return super().flops(bottom_shapes, top_shapes) + steps * batch * self.hidden**2

    def step_forward(self, t, cont, y):
        h = self.state["input"][t]
        A.tanh_forward(h, h)
        return h

    def rows(self, array):
        """All steps of all sequences, one behind the other: (T N, D)."""
        return array.reshape(array.shape[0] * array.shape[1], self.hidden)

    def after_steps(self, y, h):
        self.state["h_end"][...] = h
        weight, bias, out = self.params["W_ho"], self.params["b_o"], self.rows(self.state["output"])
        self.device.gemm(self.rows(self.state["input"]), weight.data, out, transpose_b=True)  # (T N, D) @ (D, D)
        B.shift(out, bias.data, out, self.hidden, 1)
        A.tanh_forward(out, out)
        y.data[...] = self.state["output"]

    def before_steps(self, y, spare):
        if not y.needs_diff:
            return None
        weight, bias = self.params["W_ho"], self.params["b_o"]
        h, dout, dh = self.rows(self.state["input"]), self.rows(spare[0]), self.rows(spare[1])
        A.tanh_backward(self.state["output"], y.diff, spare[0])
        if weight.needs_diff:
            self.device.gemm(dout, h, weight.diff, transpose_a=True, beta=1.0)  # (D, T N) @ (T N, D)
        if bias.needs_diff:
            B.sum_columns(dout, bias.diff, len(dout), self.hidden, True)
        self.device.gemm(dout, weight.data, dh)  # (T N, D) @ (D, D)
        return spare[1]

    def step_backward(self, t, cont, dh, diffs, dinput):
        K.rnn_backward(self.state["input"][t], dh, diffs[0], dinput)
