"""Embed."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from . import _rows

B = Kernels("broadcast.h")
K = Kernels("lookup.h")


class Embed(Layer):
    """A learnt vector for each word: y = W_x + b, an InnerProduct with one-hot vectors that are never made.

    Bottom x: word numbers, any shape, each from 0 to input_dim - 1; fractions are cut off, and it gets no gradient.
    Top y: (..., num_output). Weights W (input_dim, num_output); bias b (num_output,) unless ``bias_term: false``. dW of
    a word += the sum of dy over the places where it stands, in their order; db += the sum of dy.

    Raises DataError for a number out of range, with its item and value; DefinitionError for a missing num_output or
    input_dim. Bengio et al., JMLR, 2003.
    """

    differentiable = (False,)

    def setup(self, x):
        options = self.options
        for field, example in (("num_output", 256), ("input_dim", 8000)):
            if getattr(options, field) < 1:
                given = options.HasField(field)
                message = (
                    f"{field}: 0 must be at least 1" if given else f"{field} is missing: write {field}: {example}, say"
                )
                raise self.error(message, *((field,) if given else ()), kind=DefinitionError)
        self.parameter("weight", (options.input_dim, options.num_output), options.weight_filler)
        if options.bias_term:
            self.parameter("bias", (options.num_output,), options.bias_filler)

    def top_shapes(self, x):
        return [(*x, self.options.num_output)]

    def state_shapes(self, x):
        return _rows.state_shapes(x)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        bias = self.params.get("bias")
        rows = _rows.read(self, 0, x, self.options.input_dim)
        K.take_rows(self.params["weight"].data, rows, bias.data if bias else None, y.data, self.options.num_output)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        weight, bias = self.params["weight"], self.params.get("bias")
        if weight.needs_diff:
            _rows.add(self, y.diff, weight.diff, self.options.num_output)
        if bias and bias.needs_diff:
            B.sum_columns(y.diff, bias.diff, x.count, bias.count, True)
