"""ArgMax."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("argmax.h")

INDICES, VALUES, BOTH = range(3)


class ArgMax(Layer):
    """Where the ``top_k`` largest values are, the largest first (default 1); no gradient.

    Bottom x: any shape. With ``axis`` (negative ones count from the back), along it: top y has the shape of x but for
    top_k on that axis, and holds indices, or with ``out_max_val`` the values themselves. Without it, over all values of
    an item, counted along axis 0: top y (N, 1, top_k), or with out_max_val (N, 2, top_k), first the indices, then the
    values; further axes of 1 as far as x has any.

    Of equal values the one behind is the larger, as in Caffe; a NaN is larger than anything. An index is a number of
    y's type: in float32 those up to 2^24 are exact. Raises ShapeError for an axis that x does not have, and for fewer
    values than top_k.
    """

    differentiable = False

    def setup(self, x):
        if self.options.top_k < 1:
            raise self.error(f"top_k: {self.options.top_k} must be at least 1", "top_k", kind=DefinitionError)

    def rows(self, x):
        """x as (outer, values, inner)."""
        if not self.options.HasField("axis"):
            return x[0], count(x, 1), 1
        axis = self.axis(self.options.axis, len(x))
        return count(x, 0, axis), x[axis], count(x, axis + 1)

    def top_shapes(self, x):
        self.require(len(x) > 0, f"{self.describe()} must have an axis", "bottom")
        k = self.options.top_k
        _, values, _ = self.rows(x)
        self.require(k <= values, f"top_k: {k} must be at most the {values} values of {self.describe()}", "top_k")
        if self.options.HasField("axis"):
            axis = self.axis(self.options.axis, len(x))
            return [(*x[:axis], k, *x[axis + 1 :])]
        return [(x[0], 2 if self.options.out_max_val else 1, k, *[1] * (len(x) - 3))]

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        outer, values, inner = self.rows(x.shape)
        what = INDICES if not self.options.out_max_val else VALUES if self.options.HasField("axis") else BOTH
        K.largest(x.data, y.data, values, inner, self.options.top_k, what, count=outer * inner)
