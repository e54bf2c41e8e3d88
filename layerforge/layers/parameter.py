"""Parameter."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer

K = Kernels("eltwise.h")


class Parameter(Layer):
    """A learnt array as a blob, for layers that take as a bottom what others learn: y = weight.

    No bottom. Top y and parameter weight: of ``shape``; weight starts at 0. dweight += dy.
    Raises DefinitionError without a shape.
    """

    bottoms = 0

    def setup(self):
        if not self.options.HasField("shape"):
            message = "shape is missing: write parameter_param { shape { dim: 10 dim: 3 } }, say"
            raise self.error(message, kind=DefinitionError)
        self.parameter("weight", self.options.shape.dim)

    def top_shapes(self):
        return [self.params["weight"].shape]

    def forward(self, bottom, top):
        (y,), weight = top, self.params["weight"]
        y.data[...] = weight.data

    def backward(self, bottom, top):
        (y,), weight = top, self.params["weight"]
        if weight.needs_diff:
            K.add(weight.diff, y.diff, weight.diff)
