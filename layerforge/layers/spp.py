"""SPP."""

import functools
from dataclasses import dataclass

import numpy as np

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import TRAIN, Layer, count

E = Kernels("eltwise.h")
K = Kernels("pooling.h")


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: an image cut into bins x bins windows."""

    bins: int
    begin: int  # of its values among those of a channel, over all levels
    numbers: tuple[int, ...]  # the 15 that every pooling kernel takes

    @property
    def end(self):
        return self.begin + self.bins**2


class SPP(Layer):
    """Spatial pyramid pooling: images of any size to vectors of one length.

    Level l = 0 ... ``pyramid_height`` - 1 cuts the image into 2^l x 2^l windows of ceil(size / 2^l) pixels, with half
    of what is missing padded before the image, and pools each: ``pool`` is MAX (default), AVE or STOCHASTIC, as in
    `Pooling`; an average counts the padding.
    Bottom x: (N, C, H, W). Top y: (N, C * sum of 4^l), level by level, each (C, 2^l, 2^l); with one level only,
    (N, C, 1, 1), as in Caffe. ``engine`` makes no difference.

    Raises DefinitionError for a pyramid_height of 0, ShapeError for an image that is too small for its finest level.
    He et al., ECCV 2014.
    """

    def setup(self, x):
        if self.options.pyramid_height < 1:
            given = self.options.HasField("pyramid_height")
            what = "0 must be at least 1" if given else "is missing: write pyramid_height: 3, say"
            message = f"pyramid_height: {what}" if given else f"pyramid_height {what}"
            raise self.error(message, *(("pyramid_height",) if given else ()), kind=DefinitionError)
        self.method = type(self.options).PoolMethod.Name(self.options.pool)

    def levels(self, x):
        return levels(x[2:], self.options.pyramid_height)

    def top_shapes(self, x):
        self.require(len(x) == 4, f"{self.describe()} must be (N, C, H, W)", "bottom")
        self.require(all(x[2:]), f"{self.describe()} holds no pixel", "bottom")
        for level in self.levels(x):
            for size, kernel, pad in zip(x[2:], level.numbers[4:6], level.numbers[10:12], strict=True):
                self.require(
                    pad < kernel,
                    f"pyramid_height: {self.options.pyramid_height} cuts {size} pixels of {self.describe()} into"
                    f" {level.bins} windows of {kernel}, of which some would be empty: lower it",
                    "pyramid_height",
                )
        values = x[1] * self.levels(x)[-1].end
        return [(x[0], values) if self.options.pyramid_height > 1 else (*x[:2], 1, 1)]

    def state_shapes(self, x):
        size = (x[0] * x[1] * self.levels(x)[-1].end,)
        return {} if self.method == "AVE" else {"mask": (size, np.int32)}

    def scratch_size(self, x):
        return count(x) + 2 * x[0] * x[1] * self.levels(x)[-1].end

    def parts(self, x, y):
        """Each level with its part of y, and with arrays for its values, for others, and for places in the image."""
        last, planes = self.levels(x)[-1].end, x[0] * x[1]
        size = planes * last
        values, others = self.scratch[count(x) : count(x) + size], self.scratch[count(x) + size : count(x) + 2 * size]
        mask = self.state.get("mask")
        rows = y.reshape(x[0], x[1] * last)
        for level in self.levels(x):
            mine = slice(planes * level.begin, planes * level.end)
            part = rows[:, x[1] * level.begin : x[1] * level.end]
            yield level, part, values[mine], others[mine], None if mask is None else mask[mine]

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        for level, part, values, _, mask in self.parts(x.shape, y.data):
            if self.method == "MAX":
                K.max_forward(x.data, values, mask, *level.numbers)
            elif self.method == "AVE":
                K.average_forward(x.data, values, True, *level.numbers)
            elif self.phase == TRAIN:
                seed, stream, step = self.random_key()
                K.stochastic_forward(x.data, values, mask, seed, stream ^ level.bins, step, *level.numbers)
            else:
                K.stochastic_mean(x.data, values, *level.numbers)
            part[...] = values.reshape(part.shape)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        for level, part, dy, again, mask in self.parts(x.shape, y.diff):
            dy.reshape(part.shape)[...] = part
            dx = self.scratch[: x.count] if level.begin else x.diff
            if self.method == "AVE":
                K.average_backward(dy, dx, True, *level.numbers)
            elif self.method == "MAX" or self.phase == TRAIN:
                K.max_backward(dy, mask, dx, *level.numbers)
            else:
                K.stochastic_mean(x.data, again, *level.numbers)
                K.stochastic_mean_backward(x.data, again, dy, dx, *level.numbers)
            if level.begin:
                E.add(x.diff, dx, x.diff)


@functools.lru_cache(maxsize=1024)
def levels(image, height):
    made = []
    begin = 0
    for bins in (2**level for level in range(height)):
        kernel = tuple(-(-size // bins) for size in image)
        pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
        numbers = (1, *image, 1, *kernel, 1, *kernel, 0, *pad, 1, bins, bins)
        made.append(Level(bins, begin, numbers))
        begin = made[-1].end
    return tuple(made)
