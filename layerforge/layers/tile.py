"""Tile."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("broadcast.h")


class Tile(Layer):
    """A bottom repeated along an axis: y = [x, x, ...], ``tiles`` times.

    Bottom x: any shape. Top y: its shape, ``axis`` (default 1; negative ones count from the back) being ``tiles``
    times as large. The gradient of x is the sum over the copies. Raises DefinitionError unless tiles is 1 or more.
    """

    def setup(self, x):
        if self.options.tiles < 1:
            message = f"tiles: {self.options.tiles} must be 1 or more"
            raise self.error(message, "tiles", kind=DefinitionError)
        self.along = self.axis(self.options.axis, len(x))

    def top_shapes(self, x):
        k = self.along
        return [(*x[:k], x[k] * self.options.tiles, *x[k + 1 :])]

    def copies(self, x):
        """The shape of the top, with an axis for the copies."""
        return count(x, 0, self.along), self.options.tiles, count(x, self.along)

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        outer, _, inner = shape = self.copies(x.shape)
        y.data.reshape(shape)[...] = x.data.reshape(outer, 1, inner)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        _, tiles, inner = self.copies(x.shape)
        K.sum_copies(y.diff, x.diff, tiles, inner)
