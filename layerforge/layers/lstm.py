"""LSTM."""

from ..kernels import Kernels
from ._recurrent import Recurrent

K = Kernels("recurrent.h")


class LSTM(Recurrent):
    """Long short-term memory over sequences: c_t = f_t c_t-1 + i_t g_t and h_t = o_t tanh(c_t), where

    (i_t, f_t, o_t, g_t) = (s, s, s, tanh)(W_xc x_t + b_c + W_xc_static x_static + W_hc h_t-1), s = 1 / (1 + exp(-x)).
    Where cont is 0 a sequence begins: h_t-1 and c_t-1 are 0.

    Bottoms: x (T, N, ...), T steps of N sequences, each value of a step being an input; cont (T, N), 0 or 1, which gets
    no gradient; maybe x_static (N, ...), the same in all steps; with ``expose_hidden`` also h_0 and c_0 (1, N, D), D
    being ``num_output``. Tops: h (T, N, D), and with expose_hidden h_T and c_T (1, N, D). Without it, the states after
    the last step are those before the first step of the next pass, where cont is not 0; at first, and when N changes,
    they are 0.

    Parameters, in Caffe's order: W_xc (4 D, K), b_c (4 D,), W_xc_static (4 D, K_static) if there is such a bottom, W_hc
    (4 D, D), the four parts in the order i, f, o, g. Gradients go back through all T steps, to h_0 and c_0
    where they are bottoms; those of h_T and c_T are not passed on, as in Caffe. ``debug_info`` makes no difference.

    Raises DefinitionError for a missing num_output and a number of bottoms or tops that does not fit expose_hidden,
    ShapeError where shapes do not fit each other or the weights. Hochreiter & Schmidhuber, Neural Computation, 1997;
    with static input: Donahue et al., CVPR 2015.
    """

    bottoms = (2, 5)
    tops = (1, 3)
    states = ("h", "c")
    parts = 4
    names = ("W_xc", "b_c", "W_xc_static", "W_hc")

    def state_shapes(self, *bottom_shapes):
        shapes = super().state_shapes(*bottom_shapes)
        return {**shapes, "c": shapes["before"]}

    def before_cell(self, t):
        return self.state["c"][t - 1] if t else self.state["c_begin"]

    def step_forward(self, t, cont, y):
        gates, c, h = self.state["input"][t], self.state["c"][t], y.data[t]
        K.lstm_forward(gates, cont, self.before_cell(t), gates, c, h, self.hidden, count=h.size)
        return h

    def after_steps(self, y, h):
        self.state["h_end"][...] = h
        self.state["c_end"][...] = self.before_cell(y.shape[0])

    def before_steps(self, y, spare):
        return y.diff if y.needs_diff else None

    def step_backward(self, t, cont, dh, diffs, dinput):
        later, dc = diffs
        gates, c = self.state["input"][t], self.state["c"][t]
        K.lstm_backward(gates, cont, self.before_cell(t), c, dh, later, dc, dinput, dc, self.hidden, count=dc.size)
