"""Reshape."""

import math

from ..errors import DefinitionError
from ..layer import Layer


class Reshape(Layer):
    """The same values in another shape.

    Bottom: any shape. Its ``num_axes`` axes from ``axis`` on (defaults: all) are replaced by ``shape``, in which 0
    copies the bottom's size at that place and one -1 stands for whatever is left over. ``axis`` may count from the
    back; -1 is behind the last axis, so that new axes can be appended. Bottom and top share memory: nothing is
    copied. Raises ShapeError where the counts differ or a 0 has nothing to copy, DefinitionError for more than one
    -1.
    """

    shares_data = True
    shares_diff = True

    def setup(self, x):
        sizes = self.options.shape.dim
        if sum(size == -1 for size in sizes) > 1:
            raise self.error("shape: only one dim may be -1", "shape", kind=DefinitionError)
        for i, size in enumerate(sizes):
            if size < -1:
                message = f"shape: dim {size} must be a size, 0 (the bottom's) or -1 (what is left over)"
                raise self.error(message, "shape", "dim", i, kind=DefinitionError)

    def top_shapes(self, x):
        first, last = self.replaced(len(x))
        sizes = list(self.options.shape.dim)
        for i, size in enumerate(sizes):
            if size == 0:
                self.require(
                    first + i < len(x),
                    f"shape: dim {i} is 0, but {self.describe()} has no axis {first + i} to copy",
                    "shape",
                )
                sizes[i] = x[first + i]
        rest = math.prod(x[:first]) * math.prod(x[last:]) * math.prod(size for size in sizes if size != -1)
        if -1 in sizes:
            self.require(
                rest and math.prod(x) % rest == 0,
                f"shape: the {math.prod(x)} values of {self.describe()} do not divide by the {rest} of the other dims",
                "shape",
            )
            sizes[sizes.index(-1)] = math.prod(x) // rest
        top = (*x[:first], *sizes, *x[last:])
        self.require(
            math.prod(top) == math.prod(x),
            f"shape: {top} has {math.prod(top)} values, but {self.describe()} has {math.prod(x)}",
            "shape",
        )
        return [top]

    def replaced(self, rank):
        """The range of the bottom's axes that ``shape`` replaces."""
        axis, number = self.options.axis, self.options.num_axes
        self.require(
            -rank - 1 <= axis <= rank, f"axis: {axis} is no place in {self.describe()}, which has {rank} axes", "axis"
        )
        first = axis if axis >= 0 else axis + rank + 1
        self.require(
            -1 <= number <= rank - first,
            f"num_axes: {self.describe()} has no {number} axes from {first} on; -1 takes all that there are",
            "num_axes",
        )
        return first, rank if number == -1 else first + number
