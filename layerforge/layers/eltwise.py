"""Eltwise."""

import numpy as np

from ..errors import DefinitionError
from ..fusion import Rectify, leading
from ..kernels import Kernels
from ..layer import Layer

B = Kernels("batch_norm.h")
K = Kernels("eltwise.h")


class Eltwise(Layer):
    """Bottoms combined element by element: a weighted sum, a product or the largest.

    SUM: y = c_0 x_0 + c_1 x_1 + ..., each c_k (``coeff``) 1 unless given; dx_k = c_k dy.
    PROD: y = x_0 x_1 ...; dx_k = dy times the others, or dy * y / x_k with ``stable_prod_grad: false``, which is
    quicker for many bottoms but NaN where x_k is 0.
    MAX: y = max x_k; the gradient goes to the largest alone. As in Caffe, the second of the first two wins a tie
    between them, and the earlier bottom any other. A NaN in any bottom is NaN in the top.

    Bottoms: two or more, all of one shape, any rank; the top has it too. Raises ShapeError where shapes differ,
    DefinitionError for coeff with another operation than SUM, or not one for each bottom.
    """

    bottoms = (2, None)
    blocks = "alike"
    absorbs_backward = True
    absorbs_copies = True

    def setup(self, *bottom_shapes):
        options = self.options
        self.operation = type(options).EltwiseOp.Name(options.operation)
        given = list(options.coeff)
        if given and self.operation != "SUM":
            message = f"coeff: is for operation SUM, not for {self.operation}"
            raise self.error(message, "coeff", kind=DefinitionError)
        if given and len(given) != len(bottom_shapes):
            message = f"coeff: is given {len(given)} times for {len(bottom_shapes)} bottoms: give one for each, or none"
            raise self.error(message, "coeff", kind=DefinitionError)
        self.coefficients = given or [1.0] * len(bottom_shapes)
        if self.operation == "PROD" and not options.stable_prod_grad:
            self.needs_top = "values"

    def top_shapes(self, *bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            message = f"{self.describe(i)} must have the shape of {self.describe(0)}"
            self.require(shape == bottom_shapes[0], message, "bottom", i)
        return [bottom_shapes[0]]

    def absorbs(self, steps, learns):
        return leading(steps, Rectify) if self.operation == "SUM" else 0

    def same_diff(self):
        return [k for k, c in enumerate(self.coefficients) if c == 1] if self.operation == "SUM" else ()

    def takes_pending(self, steps, learns):
        return self.operation == "SUM" and self.coefficients == [1, 1] and leading(steps[-1:], Rectify) == 0

    def state_shapes(self, *bottom_shapes):
        return {"winner": (bottom_shapes[0], np.int32)} if self.operation == "MAX" else {}

    def forward(self, bottom, top):
        (y,) = top
        first, second, *others = (x.data for x in bottom)
        if self.operation == "SUM":
            self.add(bottom, y)
        elif self.operation == "PROD":
            K.product(first, second, y.data)
            for x in others:
                K.product(y.data, x, y.data)
        else:
            winner = self.state["winner"]
            K.larger(first, second, y.data, winner)
            for k, x in enumerate(others, start=2):
                K.larger_still(x, y.data, winner, k)

    def add(self, bottom, y):
        slope, waiting = self.joined.slope, self.joined.pending
        if any(layer.add_pending(bottom[1 - k], y, slope) for k, layer in waiting.items()):
            return
        if waiting:
            operands = {k: layer.pending(y.shape) for k, layer in waiting.items()}
            given = []
            for k, x in enumerate(bottom):
                p = operands.get(k)
                given += [p.values, p.mean, p.scale, p.weight, p.bias] if p else [x.data, None, None, None, None]
            (p, *_) = operands.values()
            B.normalised_sum(*given, y.data, slope, *p.layout, y.block, count=p.lanes)
            return
        (so_far, *values), (c0, *coefficients) = (x.data for x in bottom), self.coefficients
        for x, c in zip(values[:-1], coefficients[:-1], strict=True):
            K.sum(so_far, x, y.data, c0, c)
            so_far, c0 = y.data, 1
        if self.joined.steps:
            K.rectified_sum(so_far, values[-1], y.data, c0, coefficients[-1], slope)
        else:
            K.sum(so_far, values[-1], y.data, c0, coefficients[-1])

    def backward(self, bottom, top):
        (y,) = top
        if self.joined.steps or self.joined.copies:
            first, *second = [copy.diff for copy in self.joined.copies] or [y.diff]
            K.rectified_gradient(y.data, first, second[0] if second else None, y.diff, self.joined.slope)
        for k, x in enumerate(bottom):
            if not x.needs_diff or k in self.passed_diffs:
                continue
            if self.operation == "SUM":
                K.scale(y.diff, x.diff, self.coefficients[k])
            elif self.operation == "MAX":
                K.won(self.state["winner"], y.diff, x.diff, k)
            elif self.options.stable_prod_grad:
                factor = y.diff
                for other in (*bottom[:k], *bottom[k + 1 :]):
                    K.product(factor, other.data, x.diff)
                    factor = x.diff
            else:
                K.product_without(y.diff, y.data, x.data, x.diff)
