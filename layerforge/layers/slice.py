"""Slice."""

from itertools import pairwise

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer
from ._parts import places

K = Kernels("parts.h")


class Slice(Layer):
    """A bottom cut along an axis: y_0, y_1, ... are its parts, one behind the other.

    Bottom x: any shape. Tops: one or more, its shape but for ``axis`` (default 1; negative ones count from the back;
    ``slice_dim`` is its old name), cut before each ``slice_point``, or into equal parts if there is none.
    Raises ShapeError where the cuts do not fit, DefinitionError where both axis and slice_dim are given.
    """

    tops = (1, None)
    blocks = "alike"

    def setup(self, x):
        old = self.options.HasField("slice_dim")
        if old and self.options.HasField("axis"):
            raise self.error(
                "axis and its old name slice_dim are both given: keep axis", "slice_dim", kind=DefinitionError
            )
        field = "slice_dim" if old else "axis"
        self.along = self.axis(getattr(self.options, field), len(x), field)

    def cuts(self, x):
        """The places of the cuts, from 0 to the size of the axis."""
        size, tops, points = x[self.along], len(self.param.top), list(self.options.slice_point)
        if not points:
            message = (
                f"{tops} tops must divide the {size} of axis {self.along} of {self.describe()}, or give slice_point"
            )
            self.require(size % tops == 0, message)
            return range(0, size + 1, size // tops) if size else [0] * (tops + 1)
        self.require(
            len(points) == tops - 1,
            f"slice_point: is given {len(points)} times for {tops} tops, which need {tops - 1}",
            "slice_point",
        )
        for i, (before, after) in enumerate(pairwise([0, *points, size])):
            message = f"slice_point: {points} must rise, within the {size} of axis {self.along} of {self.describe()}"
            self.require(before < after, message, "slice_point", min(i, len(points) - 1))
        return [0, *points, size]

    def top_shapes(self, x):
        k = self.along
        return [(*x[:k], end - begin, *x[k + 1 :]) for begin, end in pairwise(self.cuts(x))]

    def takes_blocks(self, block, top):
        """Of whole images, or of all channels of a position, on a GPU; not of positions."""
        return self.along < 2 and not self.device.is_host

    def forward(self, bottom, top):
        (x,) = bottom
        for y, place in places(x, top, self.along):
            K.take_part(x.data, y.data, *place)

    def backward(self, bottom, top):
        (x,) = bottom
        if not all(y.needs_diff for y in top):
            x.diff.fill(0)
        for y, place in places(x, top, self.along):
            if y.needs_diff:
                K.put_part(y.diff, x.diff, *place, count=y.count)
