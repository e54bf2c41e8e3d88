"""Flatten."""

from ..layer import Layer, count


class Flatten(Layer):
    """The same values with the axes from ``axis`` to ``end_axis`` made one.

    Bottom: any shape. Top: for axis 1 and end_axis -1, the defaults, (N, C * H * W) of (N, C, H, W). Both axes may
    count from the back. Bottom and top share memory: nothing is copied. Raises ShapeError where end_axis is before
    axis.
    """

    shares_data = True
    shares_diff = True

    def top_shapes(self, x):
        first = self.axis(self.options.axis, len(x), "axis")
        last = self.axis(self.options.end_axis, len(x), "end_axis")
        self.require(
            first <= last,
            f"end_axis: {self.options.end_axis} must not be before axis {self.options.axis} of {self.describe()}",
            "end_axis",
        )
        return [(*x[:first], count(x, first, last + 1), *x[last + 1 :])]
