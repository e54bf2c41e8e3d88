"""Concat."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from ._parts import places

K = Kernels("parts.h")


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
        """Of whole images, or of their channels, which are whole blocks; not of positions. Where a block is all
        channels, those of each position are put together: by a GPU, for on a CPU that would be many short copies."""
        channels = [shape[1] for shape in self.bottom_shapes]
        mixes = top and self.along == 1 and block == sum(channels) > max(channels)
        return self.along < 2 and not (mixes and self.device.is_host)

    def forward(self, bottom, top):
        (y,) = top
        for x, place in places(y, bottom, self.along):
            K.put_part(x.data, y.data, *place, count=x.count)

    def backward(self, bottom, top):
        (y,) = top
        for i, (x, place) in enumerate(places(y, bottom, self.along)):
            if x.needs_diff and i in self.slopes_below:
                K.take_rectified_part(y.diff, x.data, x.diff, self.slopes_below[i], *place)
            elif x.needs_diff:
                K.take_part(y.diff, x.diff, *place)

    def differentiates(self, step, index):
        return True
