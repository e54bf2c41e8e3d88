"""Concat."""

from itertools import accumulate

from ..errors import DefinitionError
from ..layer import Layer


class Concat(Layer):
    """Bottoms one behind the other along an axis: y = [x_0, x_1, ...].

    Bottoms: one or more, of equal shapes but for ``axis`` (default 1; negative ones count from the back; ``concat_dim``
    is its old name). Top: that shape, with the sum of the sizes along ``axis``.
    Raises ShapeError where another axis differs, DefinitionError where both axis and concat_dim are given.
    """

    bottoms = (1, None)
    blocks = "alike"

    def setup(self, *bottom_shapes):
        old = self.options.HasField("concat_dim")
        if old and self.options.HasField("axis"):
            message = "axis and its old name concat_dim are both given: keep axis"
            raise self.error(message, "concat_dim", kind=DefinitionError)
        field = "concat_dim" if old else "axis"
        self.along = self.axis(getattr(self.options, field), len(bottom_shapes[0]), field)

    def top_shapes(self, *bottom_shapes):
        first, k = bottom_shapes[0], self.along
        for i, shape in enumerate(bottom_shapes):
            self.require(
                len(shape) == len(first) and shape[:k] + shape[k + 1 :] == first[:k] + first[k + 1 :],
                f"{self.describe(i)} must have the shape of {self.describe(0)} on every axis but {k}",
                "bottom",
                i,
            )
        return [(*first[:k], sum(shape[k] for shape in bottom_shapes), *first[k + 1 :])]

    def takes_blocks(self, block, top):
        """Of whole images, or of their channels, which are whole blocks; not of positions."""
        return self.along < 2

    def parts(self, bottom):
        """Each bottom with the index of its part of the top."""
        k = self.along
        for x, end in zip(bottom, accumulate(x.shape[k] for x in bottom), strict=True):
            yield x, (slice(None),) * k + (slice(end - x.shape[k], end),)

    def forward(self, bottom, top):
        (y,) = top
        for x, part in self.parts(bottom):
            y.data[part] = x.data

    def backward(self, bottom, top):
        (y,) = top
        for x, part in self.parts(bottom):
            if x.needs_diff:
                x.diff[...] = y.diff[part]
