"""Filter."""

import numpy as np

from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("lookup.h")


class Filter(Layer):
    """The items of a batch that a selector keeps, in their order; all others are left out.

    Bottoms: one or more (N, ...), and at last the selector, (N,) or (N, 1, ...), which keeps item n where it is not 0,
    and gets no gradient. Tops: one for each bottom but the selector, (M, ...), with M, the number of items kept, known
    only when the selector is: before the first pass it is N, and it may be 0. The gradient of an item that is not kept
    is 0. Raises ShapeError where the shapes do not fit.
    """

    bottoms = (2, None)
    tops = (1, None)
    dynamic = True

    def setup(self, *bottom_shapes):
        self.items = self.kept = None

    def allows_diff(self, index):
        return index < len(self.param.bottom) - 1

    def top_shapes(self, *bottom_shapes):
        *values, selector = bottom_shapes
        last = len(values)
        self.require(
            len(self.param.top) == last,
            f"{len(self.param.top)} tops for {last} bottoms and a selector: each of those has a top of its own",
            "top",
        )
        self.require(
            len(selector) > 0 and count(selector) == selector[0], f"{self.describe(last)} must be (N,)", "bottom", last
        )
        items = selector[0]
        for i, shape in enumerate(values):
            message = f"{self.describe(i)} must have as many items on axis 0 as {self.describe(last)}"
            self.require(shape[:1] == (items,), message, "bottom", i)
        kept = self.kept if self.items == items else items
        return [(kept, *shape[1:]) for shape in values]

    def state_shapes(self, *bottom_shapes):
        items = ((bottom_shapes[-1][0],), np.int32)
        return {"kept": items, "place": items}

    def choose(self, selector):
        """The items that are kept, and for each item where it goes, or -1."""
        chosen = self.device.to_numpy(selector.data).reshape(-1) != 0
        number = int(np.count_nonzero(chosen))
        place = np.cumsum(chosen, dtype=np.int32) - 1
        place[~chosen] = -1
        self.items, self.kept = len(chosen), number
        self.device.from_numpy(self.state["place"], place)
        self.device.from_numpy(self.state["kept"][:number], np.flatnonzero(chosen).astype(np.int32))

    def resize(self, top):
        """All tops at once: the layers below look at all of them when the first one changes."""
        first, *others = top
        if first.shape[0] != self.kept:
            for y in others:
                y.shape = (self.kept, *y.shape[1:])
            first.reshape(self.kept, *first.shape[1:])
        for y in others:
            if y.data.shape != y.shape:  # outside a net
                y.resize(y, y.shape)

    def forward(self, bottom, top):
        *values, selector = bottom
        self.choose(selector)
        self.resize(top)
        for x, y in zip(values, top, strict=True):
            K.take_rows(x.data, self.state["kept"], None, y.data, count(x.shape, 1))

    def backward(self, bottom, top):
        for x, y in zip(bottom, top, strict=False):
            if not x.needs_diff:
                continue
            if y.needs_diff:
                K.place_rows(y.diff, self.state["place"], x.diff, count(x.shape, 1))
            else:
                x.diff.fill(0)
