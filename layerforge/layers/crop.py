"""Crop."""

from ..errors import DefinitionError
from ..layer import Layer


class Crop(Layer):
    """A part of bottom 0, as large as bottom 1: y = x[..., offset : offset + size, ...].

    Bottom x: any shape. Bottom 1: as many axes; only its shape counts, and its gradient is 0. Top y: the shape of x
    before ``axis`` (default 2; negative ones count from the back), that of bottom 1 from there on. ``offset``: where
    the part begins, none (0), one for all axes from ``axis`` on, or one for each. dx is 0 outside the part.

    Raises DefinitionError for another number of offsets, ShapeError where the part does not lie within x.
    """

    bottoms = 2

    def top_shapes(self, x, like):
        self.require(len(like) >= len(x), f"{self.describe(1)} must have the axes of {self.describe(0)}", "bottom", 1)
        return [tuple(part.stop - part.start for part in self.part(x, like))]

    def part(self, x, like):
        """The part of x, as one slice for each axis."""
        first, offsets = self.axis(self.options.axis, len(x)), list(self.options.offset)
        axes = len(x) - first
        if len(offsets) not in (0, 1, axes):
            message = (
                f"offset is given {len(offsets)} times for the {axes} axes of {self.describe(0)} from axis {first} on:"
                " give it once, or once for each axis"
            )
            raise self.error(message, "offset", kind=DefinitionError)
        begins = [0] * first + (offsets or [0]) * (1 if len(offsets) > 1 else axes)
        parts = []
        for axis, begin in enumerate(begins):
            size = like[axis] if axis >= first else x[axis]
            self.require(
                begin + size <= x[axis],
                f"offset: {begin} + the {size} of {self.describe(1)} on axis {axis} must be at most the {x[axis]} of"
                f" {self.describe(0)}",
                *(("offset",) if offsets else ("bottom", 1)),
            )
            parts.append(slice(begin, begin + size))
        return tuple(parts)

    def forward(self, bottom, top):
        (x, like), (y,) = bottom, top
        y.data[...] = x.data[self.part(x.shape, like.shape)]

    def backward(self, bottom, top):
        (x, like), (y,) = bottom, top
        if x.needs_diff:
            x.diff.fill(0)
            x.diff[self.part(x.shape, like.shape)] = y.diff
        if like.needs_diff:
            like.diff.fill(0)
