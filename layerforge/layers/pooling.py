"""Pooling."""

import functools

import numpy as np

from ..errors import DefinitionError
from ..fusion import Rectify
from ..kernels import Kernels
from ..layer import TRAIN, Layer, count
from . import _windows

K = Kernels("pooling.h")


class Pooling(Layer):
    """The largest, the average or a drawn value of every window of an image.

    Bottom x: (N, C, spatial...) with one to three spatial axes. Top y: (N, C, out...), with out = ceil((size + 2 pad -
    kernel) / stride) + 1 along each axis, or floor with ``round_mode: FLOOR``; a window that would start beyond the
    image and its padding is dropped. The other windows are clipped to the image.

    MAX: y = the largest x, the first of several; a NaN counts as larger than anything. Top 1, if there is one: where it
    was, as the flat index into the image, a number of y's type. dx = dy there. AVE: y = sum of x / positions of the
    window, those in the padding included; a window ends with the padding. STOCHASTIC, for x >= 0: in TRAIN, one x drawn
    with a probability proportional to it; in TEST, what that is on average, y = sum of x^2 / sum of x. A window of
    zeros gives 0. Zeiler & Fergus, ICLR 2013.

    ``kernel_size``, ``stride`` (1) and ``pad`` (0) are given for all axes, or on two axes as kernel_h and kernel_w, and
    so on. ``global_pooling``: one window, the whole image. Forks' words: ``ceil_mode: false`` is FLOOR,
    ``avg_include_pad: false`` does not count the padding, ``torch_pooling`` is both. ``engine`` makes no difference.

    Raises DefinitionError for options that are missing, doubled or 0, for padding as large as the kernel, for a kernel,
    padding or stride with global_pooling, and for a second top of another method than MAX; ShapeError for a bottom of
    another rank, and for windows larger than the padded image.
    """

    tops = (1, 2)
    blocks = "alike"

    def setup(self, x):
        self.require(
            3 <= len(x) <= 5, f"{self.describe()} must have one to three spatial axes: (N, C, H, W), say", "bottom"
        )
        options, axes = self.options, len(x) - 2
        self.windows = self.whole_image(axes) if options.global_pooling else _windows.read(self, axes)
        for kernel, pad in zip(self.windows.kernel, self.windows.pad, strict=True):
            if pad and pad >= kernel:
                raise self.mistake(f"pad: {pad} must be less than kernel_size: {kernel}", "pad")
        if options.HasField("ceil_mode") and options.HasField("round_mode"):
            raise self.mistake("ceil_mode and round_mode are two spellings of one option: keep round_mode", "ceil_mode")
        floor = options.torch_pooling or not options.ceil_mode or options.round_mode == options.FLOOR
        self.layout = functools.partial(layout, windows=self.windows, floor=floor)
        self.counts_padding = options.avg_include_pad and not options.torch_pooling
        self.method = type(options).PoolMethod.Name(options.pool)
        if self.method == "STOCHASTIC" and self.phase != TRAIN:
            self.needs_top = "values"
        self.keeps_places = len(self.param.top) > 1 or (self.phase == TRAIN and self.method != "AVE")
        if len(self.param.top) > 1 and self.method != "MAX":
            raise self.mistake(f"pool: {self.method} has no second top: only MAX tells where its value was", "pool")

    def mistake(self, message, *field):
        return self.error(message, *field, kind=DefinitionError)

    def whole_image(self, axes):
        """Windows whose kernel, 0, stands for the size of the image."""
        for field, only in (("kernel_size", None), ("stride", 1), ("pad", 0)):
            for name in (field, *_windows.spellings(field)):
                for value in _windows.given(self, name):
                    if value != only:
                        raise self.mistake(f"{name}: {value} contradicts global_pooling: take one of them out", name)
        return _windows.Windows((0,) * axes, (1,) * axes, (0,) * axes, (1,) * axes)

    def top_shapes(self, x):
        axes = len(self.windows.kernel)
        self.require(
            len(x) == axes + 2, f"{self.describe()} must have {axes} spatial axes, as it had at first", "bottom"
        )
        self.require(all(x[2:]), f"{self.describe()} holds no pixel", "bottom")
        output, _ = self.layout(x[2:])
        for n, size, kernel, pad in zip(output, x[2:], self.windows.kernel, self.windows.pad, strict=True):
            self.require(
                n > 0,
                f"a window of {kernel} is larger than the {size + 2 * pad} that {self.describe()} has with its padding:"
                " lower kernel_size, or raise pad",
                "kernel_size",
            )
        return [(*x[:2], *output)] * max(1, len(self.param.top))

    def takes_blocks(self, block, top):
        return len(self.windows.kernel) == 2 and self.method in ("MAX", "AVE") and len(self.param.top) < 2

    def left_blocks(self, name, block):
        self.state[name] //= block  # it counted the channels of a block one by one

    def numbers(self, x):
        """What the kernels take. In blocks of channels, an image is a volume whose last axis is the block."""
        _, numbers = self.layout(x.shape[2:])
        if x.block == 1:
            return numbers
        axes = [numbers[i : i + 3] for i in range(0, len(numbers), 3)]
        return tuple(n for (_, *two), last in zip(axes, (x.block, 1, 1, 0, x.block), strict=True) for n in (*two, last))

    def state_shapes(self, x):
        return {"mask": (self.top_shapes(x)[0], np.int32)} if self.keeps_places else {}

    def scratch_size(self, x):
        return 0 if self.keeps_places or self.method != "MAX" else 2 * count(self.top_shapes(x)[0], 1)

    def forward(self, bottom, top):
        (x,), (y, *where) = bottom, top
        numbers = self.numbers(x)
        if self.method == "MAX":
            K.max_forward(x.data, y.data, self.state.get("mask"), *numbers)
            if self.slopes_below:
                K.places_above(y.data, self.state["mask"])
        elif self.method == "AVE":
            K.average_forward(x.data, y.data, self.counts_padding, *numbers)
        elif self.phase == TRAIN:
            K.stochastic_forward(x.data, y.data, self.state["mask"], *self.random_key(), *numbers)
        else:
            K.stochastic_mean(x.data, y.data, *numbers)
        for mask in where:
            mask.data[...] = self.state["mask"]

    def backward(self, bottom, top):
        (x,), (y, *_) = bottom, top
        numbers = self.numbers(x)
        if self.method == "AVE":
            K.average_backward(y.diff, x.diff, self.counts_padding, *numbers)
        elif self.keeps_places:
            K.max_backward(y.diff, self.state["mask"], x.diff, *numbers)
        elif self.method == "MAX":
            self.find_again(x, y, numbers)
        else:
            K.stochastic_mean_backward(x.data, y.data, y.diff, x.diff, *numbers)

    def differentiates(self, step, index):
        return self.method == "MAX" and self.keeps_places and len(self.param.top) == 1 and step == Rectify(0)

    def find_again(self, x, y, numbers):
        """Backward of a net for use, whose forward passes note no places: finds them image by image."""
        values, places = self.scratch.reshape(2, -1)
        mask = places.view(np.int32)[: len(values)]
        for image, dy, dx in zip(x.data, y.diff, x.diff, strict=True):
            K.max_forward(image, values, mask, *numbers)
            K.max_backward(dy, mask, dx, *numbers)


@functools.lru_cache(maxsize=1024)
def layout(image, windows, floor):
    """How many windows there are along each axis of an image, and the 15 numbers that every pooling kernel takes."""
    kernel = tuple(k or size for k, size in zip(windows.kernel, image, strict=True))
    output = []
    for size, k, stride, pad in zip(image, kernel, windows.stride, windows.pad, strict=True):
        steps = (size + 2 * pad - k) // stride if floor else -(-(size + 2 * pad - k) // stride)
        output.append(min(steps + 1, -(-(size + pad) // stride)))  # each begins before the image and its padding end
    rows = ((image, 1), (kernel, 1), (windows.stride, 1), (windows.pad, 0), (tuple(output), 1))
    return tuple(output), tuple(n for values, one in rows for n in (one,) * (3 - len(image)) + values)
