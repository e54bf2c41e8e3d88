"""BatchNorm."""

import functools
import logging

from ..errors import DefinitionError
from ..fusion import Affine, Behind, Normalise, Pending, Rectify, leading
from ..kernels import Kernels
from ..layer import TEST, Layer, count
from ._kept import kept, kept_shapes

K = Kernels("batch_norm.h")
M = Kernels("moments.h")

log = logging.getLogger(__name__)

LANES = 2**16  # sums that keep a GPU busy, several threads for each


class BatchNorm(Layer):
    """Batch normalisation without scale and shift: y = (x - mean) / sqrt(variance + eps) for each channel.

    Bottom x: (N, C, ...), or (N,), which counts as one channel; top y: the same, and maybe the same blob. Mean and
    variance are those of the batch, or with ``use_global_stats`` (the default in phase TEST) the running ones.

    Parameters, never learnt: mean (C,), variance (C,) and factor (1,). The running statistics are mean / factor and
    variance / factor, with 0 for both while the factor is 0, which is logged. Every pass with the batch's statistics
    counts: each of the three = ``moving_average_fraction`` (0.999) times itself + the batch's mean, its variance
    (that of the whole, m / (m - 1) times the one it is normalised with, m values per channel), and 1. An empty batch
    does not count.

    With the batch's statistics dx = (dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps), with the running ones dx =
    dy / sqrt(variance + eps). ``eps`` is 1e-5 by default, and ``engine`` makes no difference. A Scale layer with
    ``bias_term: true`` behind this one learns scale and shift.

    Raises DefinitionError for an lr_mult other than 0, and for scale_bias; ShapeError for another number of channels
    than at first. Ioffe & Szegedy, ICML 2015.
    """

    in_place = True
    blocks = "alike"
    absorbs_backward = True
    own_learning = False

    def setup(self, x):
        self.require(len(x) > 0, f"{self.describe()} must have an axis of items", "bottom")
        for i, spec in enumerate(self.param.param):
            if spec.HasField("lr_mult") and spec.lr_mult:
                message = (
                    f"lr_mult: {spec.lr_mult:g} must be 0, because mean, variance and factor are counted, not learnt."
                    " Take the line out; a Scale layer with bias_term: true behind this one learns"
                )
                raise self.error(message, "param", i, "lr_mult", kind=DefinitionError)
        if self.options.scale_bias:
            message = "scale_bias: take the line out, and put a Scale layer with bias_term: true behind this one"
            raise self.error(message, "scale_bias", kind=DefinitionError)
        given = self.options.HasField("use_global_stats")
        self.running = self.options.use_global_stats if given else self.phase == TEST
        self.looked = False
        _, channels, _ = self.layout(x)
        for name, size in (("mean", channels), ("variance", channels), ("factor", 1)):
            self.parameter(name, (size,))

    def layout(self, x):
        """x as (items, channels, positions)."""
        return x[0], x[1] if len(x) > 1 else 1, count(x, 2)

    def lanes(self, shape, block):
        """x as (items, channels, positions) whose lanes are summed.

        Where all channels of a position lie side by side, some of an image's positions are an item too: then a GPU that
        would have few lanes takes shorter ones.
        """
        items, channels, positions = self.layout(shape)
        wanted = 1 if self.device.is_host or block < channels else -(-LANES // max(items * channels, 1))
        parts = max(divisor(positions, wanted), 1)
        return items * parts, channels, positions // parts

    def top_shapes(self, x):
        channels = self.params["mean"].count
        self.require(
            self.layout(x)[1] == channels,
            f"{self.describe()} must have {channels} channels, as it had at first",
            "bottom",
        )
        return [x]

    def state_shapes(self, x):
        each = (self.params["mean"].shape, self.dtype)
        if self.running and not self.joined.steps:
            return {"mean": each, "scale": each}
        arrays = {"mean": each, "scale": each, "sum": each, "dot": each}
        if self.joined.measured or self.joined.summed:
            items, channels, _ = self.layout(x)
            arrays["rows"] = ((2, items * channels), self.dtype)
        if self.joined.waits:
            return {**arrays, "weight": each, "bias": each}
        return {**arrays, **kept_shapes(self, x)}

    def absorbs(self, steps, learns):
        return leading(steps, Affine, Rectify)

    def as_step(self):
        if not self.running:
            return None
        mean, scale = (self.device.zeros(self.params["mean"].shape, self.dtype) for _ in range(2))

        def read():
            self.read_running(mean, scale)
            return mean, scale

        return Normalise(read)

    @property
    def measures(self):
        return not self.running

    def restore(self, bottom):
        if "x" in self.state:
            bottom[0].data[...] = self.state["x"]

    def may_wait(self, steps):
        return leading(steps, Affine, Rectify) == len(steps)

    def pending(self, shape):
        state, (x, slope) = self.state, self.waiting
        _, channels, positions = self.lanes(shape, x.block)
        of = (x.data, state["mean"], state["scale"], state["weight"], state["bias"])
        return Pending(*of, (channels, positions), slope, state["rows"] if self.joined.summed else None)

    def compute_pending(self, view, values):
        p = self.pending(view.shape)
        share = (*p.layout, view.block, 0, p.layout[0])
        of = (p.values, p.mean, p.scale, p.weight, p.bias)
        K.batch_norm_forward(*of, values, None, p.slope, *share, count=p.lanes)
        return True

    def shares(self, x):
        """Channels (begin, end) whose values may stay in the device's cache between two passes over them."""
        items, channels, positions = self.layout(x.shape)
        if self.device.cache is None or positions == 1 or x.block == channels:
            return [(0, channels)]
        each = max(items * positions * x.data.itemsize, 1)
        number = max(self.device.cache // each // x.block, 1) * x.block
        return [(begin, min(begin + number, channels)) for begin in range(0, channels, number)]

    def scratch_size(self, x):
        items, channels, _ = self.lanes(x, self.layout(x)[1])
        return 2 * items * channels

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        items, channels, positions = self.lanes(x.shape, x.block)
        mean, scale = self.state["mean"], self.state["scale"]
        if not x.count:
            return
        values, copy = (self.state["x"], None) if self.joined.fed else (x.data, self.state.get("x"))
        w, b = (p.data if p else None for p in self.joined.affine)
        waits = self.joined.waits
        if self.running:
            self.read_running(mean, scale)
        at_once = self.running or waits or self.joined.measured
        for begin, end in [(0, channels)] if at_once else self.shares(x):
            share = (end - begin, positions, x.block, begin, channels)
            if not self.running:
                self.measure(values, items, share)
            if not waits:
                m, s, v, o = (part(array, begin, end) for array in (mean, scale, w, b))
                lanes = items * (end - begin)
                K.batch_norm_forward(values, m, s, v, o, y.data, copy, self.joined.slope, *share, count=lanes)
        if waits:  # for the reader, who computes it with the weights of this pass
            self.waiting = x, self.joined.slope
            self.state["weight"][...] = 1 if w is None else w
            self.state["bias"][...] = 0 if b is None else b

    def measure(self, values, items, share):
        """The batch's statistics of some channels, counted among the running ones."""
        channels, positions, _, begin, _ = share
        end = begin + channels
        lanes = items * channels
        lane_mean, lane_square = values, None
        if self.joined.measured:
            lane_mean, lane_square = self.state["rows"]
        elif positions > 1:
            lane_mean, lane_square = self.scratch[:lanes], self.scratch[lanes : 2 * lanes]
            K.lane_moments(values, lane_mean, lane_square, *share, count=lanes)
        mean, scale = (self.state[name][begin:end] for name in ("mean", "scale"))
        running_mean, running_variance, factor = (None if self.repeats else p.data for p in self.blobs)
        running = part(running_mean, begin, end), part(running_variance, begin, end), None if begin else factor
        of = (items, channels, positions, self.options.eps, self.options.moving_average_fraction)
        K.batch_statistics(lane_mean, lane_square, mean, scale, *running, *of)

    def read_running(self, mean, scale):
        running_mean, running_variance, factor = (p.data for p in self.blobs)
        M.running_scale(running_mean, running_variance, factor, mean, scale, self.options.eps)
        if self.looked:  # only in the first pass: it waits for the device
            return
        self.looked = True
        if self.device.to_numpy(factor)[0] == 0:
            log.warning(
                "%s has counted no statistics yet (its factor is 0): y = x / sqrt(eps). Load weights, or train first",
                self.title,
            )

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        items, channels, positions = self.lanes(x.shape, x.block)
        slope, dy = self.joined.slope, self.joined.source or y
        values = x.data if self.joined.waits else kept(self, x)
        affine = [p.data if p else None for p in self.joined.affine]
        learnt = [p.diff if p and p.needs_diff else None for p in self.joined.affine]
        # What the scale would have left there.
        between = y.diff if self.joined.steps and y is not x and self.diff_is_seen else None
        arrays = [self.state["mean"], self.state["scale"], *affine, *(self.state.get(name) for name in ("sum", "dot"))]
        leaves = self.leaves_gradient and self.joined.measured and between is None
        for begin, end in [(0, channels)] if self.joined.summed or leaves else self.shares(x):
            share = (end - begin, positions, x.block, begin, channels)
            mean, scale, w, b, total, dot = (part(array, begin, end) for array in arrays)
            given = (values, mean, scale, w, b, dy.diff)
            if total is not None:
                rows = items * (end - begin)
                if self.joined.summed:
                    sums, dots = self.state["rows"]
                else:
                    sums, dots = self.scratch[:rows], self.scratch[rows : 2 * rows]
                    K.lane_products(*given, sums, dots, slope, *share, count=rows)
                learn = (part(array, begin, end) for array in learnt)
                K.batch_products(sums, dots, scale, total, dot, *learn, items, end - begin)
            if leaves:
                continue
            sums_of = (None, None) if self.running else (total, dot)
            of = (*sums_of, x.diff, between, slope, items * positions)
            K.batch_norm_backward(*given, *of, *share, count=items * (end - begin))
        x.behind = None
        if leaves:
            mean, scale, w, b, total, dot = arrays
            read = Pending(values, mean, scale, w, b, (channels, positions), slope)
            x.behind = Behind(read, dy.diff, total, dot, items * positions)


@functools.cache
def divisor(number, least):
    """The smallest divisor of a number that is not below ``least``; the number where there is none.

    >>> [divisor(12544, least) for least in (1, 4, 9, 10**9)]
    [1, 4, 14, 12544]
    """
    return next((each for each in range(least, number) if number % each == 0), number)


def part(array, begin, end):
    """Some channels' values, of one for each channel; None of None."""
    return None if array is None else array[begin:end]
