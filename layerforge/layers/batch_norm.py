"""BatchNorm."""

import logging

from ..errors import DefinitionError
from ..fusion import Affine, Normalise, Pending, Rectify, leading
from ..kernels import Kernels
from ..layer import TEST, Layer, count
from ._kept import kept, kept_shapes

B = Kernels("broadcast.h")
F = Kernels("functions.h")
K = Kernels("batch_norm.h")
M = Kernels("moments.h")

log = logging.getLogger(__name__)


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
        arrays = {"mean": each, "scale": each, "square": each, "sum": each, "dot": each}
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

    def restore(self, bottom):
        if "x" in self.state:
            bottom[0].data[...] = self.state["x"]

    def may_wait(self, steps):
        return leading(steps, Affine) == len(steps)

    def pending(self, shape):
        state, (_, channels, positions) = self.state, self.layout(shape)
        return Pending(state["mean"], state["scale"], state["weight"], state["bias"], (channels, positions))

    def compute_pending(self, view, values):
        p = self.pending(view.shape)
        K.batch_norm_forward(view.data, p.mean, p.scale, p.weight, p.bias, values, None, 1, *p.layout, view.block)
        return True

    def scratch_size(self, x):
        items, channels, _ = self.layout(x)
        return 2 * items * channels

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        _, *numbers = self.layout(x.shape)
        mean, scale = self.state["mean"], self.state["scale"]
        if not x.count:
            return
        values, copy = (self.state["x"], None) if self.joined.fed else (x.data, self.state.get("x"))
        w, b = self.joined.affine
        if self.running:
            self.read_running(mean, scale)
        else:
            self.measure(x, values, mean, scale)
        if self.joined.waits:  # for the reader, who computes it with the weights of this pass
            self.state["weight"][...] = w.data if w else 1
            self.state["bias"][...] = b.data if b else 0
            return
        affine, slope = (w.data if w else None, b.data if b else None), self.joined.slope
        K.batch_norm_forward(values, mean, scale, *affine, y.data, copy, slope, *numbers, x.block)

    def measure(self, x, values, mean, scale):
        """The batch's statistics, counted among the running ones."""
        items, channels, positions = self.layout(x.shape)
        rows = items * channels
        square = self.state["square"]
        row_mean, row_square = values, None
        if positions > 1:
            row_mean, row_square = self.scratch[:rows], self.scratch[rows : 2 * rows]
            K.lane_moments(values, row_mean, row_square, positions, x.block)
        M.group_moments(row_mean, row_square, mean, square, items, 1, channels, positions)
        running_mean, running_variance, factor = (p.data for p in self.blobs)
        keep, number = self.options.moving_average_fraction, items * positions
        if self.repeats:
            M.batch_scale(mean, square, scale, None, None, number, self.options.eps, keep)
            return
        M.batch_scale(mean, square, scale, running_mean, running_variance, number, self.options.eps, keep)
        F.affine(factor, factor, keep, 1)

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
        items, *numbers = self.layout(x.shape)
        channels, positions = numbers
        rows, number = items * channels, items * positions
        (w, b), slope, dy = self.joined.affine, self.joined.slope, self.joined.source or y
        mean, scale, total, dot = (self.state.get(name) for name in ("mean", "scale", "sum", "dot"))
        values = x.data if self.joined.waits else kept(self, x)
        given = (values, mean, scale, w.data if w else None, b.data if b else None, dy.diff)
        if total is not None:
            sums, dots = self.scratch[:rows], self.scratch[rows : 2 * rows]
            K.lane_products(*given, sums, dots, slope, *numbers, x.block)
            B.sum_columns(sums, total, items, channels, False)
            B.sum_columns(dots, dot, items, channels, False)
            dw, db = (p.diff if p and p.needs_diff else None for p in (w, b))
            K.learn_scale(scale, total, dot, dw, db, count=channels)
        if self.running:
            total = dot = None
        between = y.diff if self.joined.steps and y is not x else None  # what the scale would have left there
        K.batch_norm_backward(*given, total, dot, x.diff, between, slope, number, *numbers, x.block)
